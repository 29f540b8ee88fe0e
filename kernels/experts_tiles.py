"""How the matmul of experts is cut for a device: a stated rule from the device table.

Invariant: as in `attention_tiles`: what a tile needs of shared memory is bounded, and kept within the device's limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from maxbuild.kernels.matrix_units import SCRATCH, MatrixUnit, blocks_in_flight, matrix_unit
from maxbuild.targets.devices import Device

LEAST_ROWS = 16
"""The rows of the smallest tile, the fewest that matrix instructions are filled with."""


@dataclass(frozen=True, slots=True)
class MatmulTile:
    """The block of the output that a program computes, and how many inputs it takes at a time."""

    rows: int
    outputs: int
    inputs: int
    num_warps: int
    num_stages: int

    def options(self) -> dict[str, int]:
        """Return the arguments that tell a kernel its tile."""
        return {
            "ROW_BLOCK": self.rows,
            "OUTPUT_BLOCK": self.outputs,
            "INPUT_BLOCK": self.inputs,
            "num_warps": self.num_warps,
            "num_stages": self.num_stages,
        }


# Few rows: weights stream through once, so a tile is what keeps enough of them on their way. Many: as large a block of
# the output as the registers hold, so that each number loaded is used often.
_FEW: Mapping[MatrixUnit, MatmulTile] = {
    MatrixUnit.WARPGROUP: MatmulTile(LEAST_ROWS, 64, 128, 4, 4),
    MatrixUnit.WARP: MatmulTile(LEAST_ROWS, 64, 128, 4, 3),
    MatrixUnit.MFMA: MatmulTile(LEAST_ROWS, 64, 128, 4, 2),
    MatrixUnit.WMMA: MatmulTile(LEAST_ROWS, 64, 64, 4, 2),
}
_MANY: Mapping[MatrixUnit, MatmulTile] = {
    MatrixUnit.WARPGROUP: MatmulTile(128, 128, 64, 8, 3),
    MatrixUnit.WARP: MatmulTile(128, 128, 32, 8, 3),
    MatrixUnit.MFMA: MatmulTile(128, 128, 64, 8, 2),
    MatrixUnit.WMMA: MatmulTile(64, 128, 32, 8, 2),
}
# float32 is multiplied as such, on scalar units but for MFMA.
_FEW_FLOAT32 = MatmulTile(LEAST_ROWS, 32, 32, 4, 2)
_MANY_FLOAT32 = MatmulTile(64, 64, 16, 8, 2)


def few_rows_tile(device: Device, dtype: torch.dtype) -> MatmulTile:
    """Return the tile for up to LEAST_ROWS rows per expert."""
    return _fitting(_FEW_FLOAT32 if dtype.itemsize == 4 else _FEW[matrix_unit(device)], device, dtype)


def many_rows_tile(device: Device, dtype: torch.dtype) -> MatmulTile:
    """Return the tile for more rows per expert."""
    return _fitting(_MANY_FLOAT32 if dtype.itemsize == 4 else _MANY[matrix_unit(device)], device, dtype)


def _fitting(tile: MatmulTile, device: Device, dtype: torch.dtype) -> MatmulTile:
    while shared_memory(tile, device, dtype) > device.shared_memory_per_block:
        if tile.num_stages == 1:
            raise ValueError("no tile fits into the shared memory of the device")
        tile = replace(tile, num_stages=tile.num_stages - 1)
    return tile


def shared_memory(tile: MatmulTile, device: Device, dtype: torch.dtype) -> int:
    """Return a bound, in bytes, of the shared memory that Triton gives a program with this tile.

    After the loop, whose blocks are gone by then, the output passes through once.
    """
    in_loop = blocks_in_flight(device, tile.rows, tile.num_stages) * (tile.rows + tile.outputs) * tile.inputs
    return max(in_loop, tile.rows * tile.outputs) * dtype.itemsize + SCRATCH
