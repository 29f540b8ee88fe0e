"""maxbuild: warm every cache that serving a large model needs, for any target, and only what changed."""
