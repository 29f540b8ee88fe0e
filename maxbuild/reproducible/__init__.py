"""Whether packages come out the same again: a second build in a clean room, and the first byte that is another.

What is built again, what it has otherwise and what is compared is told in docs/reproducible.md.
"""
