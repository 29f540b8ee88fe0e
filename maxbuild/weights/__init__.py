"""Weight files: what they hold, read without torch, and how they are checked before anything believes them."""
