"""Time the alternatives in a package on the device that runs it, and choose: what `maxbuild tune` does.

Invariant: nothing here writes into a package, and an alternative is chosen only if it computes what the default does.
"""
