"""The matrix instructions of a device, and what Triton's pipelines keep in shared memory for them.

Invariant: all follows from the device table. What is said of Triton here is checked against what it compiles
(tests/kernels/test_compiled_kernels.py).
"""

from __future__ import annotations

import enum

from maxbuild.targets.devices import Device

LEAST_BLOCK = 16
"""The smallest side of a matrix instruction's operand that Triton accepts on all targets."""

SCRATCH = 4096
"""Bytes of shared memory for barriers and for reductions among warps: more than any kernel here was seen to need."""

_LEAST_WARPGROUP_ROWS = 64
"""Triton uses wgmma and tcgen05 from so many rows on, and mma.sync below (PTX ISA, "wgmma.mma_async": M is 64)."""


class MatrixUnit(enum.Enum):
    """The kind of matrix instructions, which decides what registers and shared memory a tile takes."""

    WARPGROUP = "wgmma (compute capability 9.0), tcgen05 (10.0)"
    WARP = "mma.sync (8.x, 12.0)"
    MFMA = "MFMA (CDNA)"
    WMMA = "WMMA (RDNA 3)"


def matrix_unit(device: Device) -> MatrixUnit:
    """Return the kind of matrix instructions that Triton uses on a device."""
    if device.capability is None:
        return MatrixUnit.MFMA if device.warp_size == 64 else MatrixUnit.WMMA
    return MatrixUnit.WARPGROUP if device.capability[0] in (9, 10) else MatrixUnit.WARP


def blocks_in_flight(device: Device, rows: int, num_stages: int) -> int:
    """Return how many blocks of each operand a loop of `num_stages` stages keeps in shared memory, at `rows` rows.

    One fewer than stages, since the newest is still on its way into registers; one more where the matrix instructions
    read shared memory themselves while the next block arrives (Triton, lib/Dialect/TritonGPU/Transforms/Pipeliner).
    """
    in_place = matrix_unit(device) is MatrixUnit.WARPGROUP and rows >= _LEAST_WARPGROUP_ROWS
    return num_stages if in_place else max(1, num_stages - 1)
