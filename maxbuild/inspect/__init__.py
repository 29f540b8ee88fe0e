"""What packages hold, read and never run: regions, kernels, their needs, and checks that all of it fits together.

Invariant: nothing of a package is loaded or executed here; whatever its bytes are, what comes of it is facts or words.
"""
