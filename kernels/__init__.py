"""Triton kernels for what GPUs compute in maxbuild's own way, each with a reference in plain torch beside it.

Invariant: what a kernel's launch looks like depends on the device table, dtypes and head sizes alone. Nothing is timed
and no driver is asked, so all hosts compile the same kernels.
"""
