"""How attention's work is cut for a device: a stated rule from the device table, where others time alternatives.

Invariant: a tile needs no more shared memory than a block of the device may have, by a bound that is checked against
what Triton reports (tests/kernels). The tables hold the largest tiles for which ptxas and LLVM report no spills, where
there are such; docs/kernels.md has their figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from maxbuild.kernels.matrix_units import LEAST_BLOCK, SCRATCH, MatrixUnit, blocks_in_flight, matrix_unit
from maxbuild.targets.devices import Device

_MOST_REGISTERS = 256
"""The 32-bit registers that a thread can have, on all of these targets to within one or two."""


@dataclass(frozen=True, slots=True)
class Tile:
    """What one program works on at a time: so many queries against so many keys."""

    queries: int
    keys: int
    num_warps: int
    num_stages: int

    def options(self) -> dict[str, int]:
        """Return the arguments that tell a kernel its tile."""
        return {
            "QUERIES": self.queries,
            "KEYS": self.keys,
            "num_warps": self.num_warps,
            "num_stages": self.num_stages,
        }


# For the wider of a key's and a value's block, at most so wide: the tile wished for. RDNA 3 keeps the operands of its
# matrix instructions twice, in both halves of a wave, so its tiles are small and, above 128, spill all the same.
_Tiles = Mapping[MatrixUnit, Mapping[int, Tile]]
_PREFILL: _Tiles = {
    MatrixUnit.WARPGROUP: {32: Tile(64, 32, 4, 2), 128: Tile(128, 128, 8, 2), 256: Tile(64, 64, 8, 2)},
    MatrixUnit.WARP: {32: Tile(64, 64, 4, 2), 128: Tile(128, 64, 8, 2), 256: Tile(64, 64, 8, 2)},
    MatrixUnit.MFMA: {128: Tile(128, 64, 8, 2), 256: Tile(64, 32, 8, 2)},
    MatrixUnit.WMMA: {64: Tile(128, 32, 8, 2), 256: Tile(128, 16, 8, 1)},
}
_DECODE: _Tiles = {
    MatrixUnit.WARPGROUP: {256: Tile(16, 32, 4, 3)},
    MatrixUnit.WARP: {256: Tile(16, 32, 4, 3)},
    MatrixUnit.MFMA: {256: Tile(16, 32, 4, 2)},
    MatrixUnit.WMMA: {64: Tile(16, 32, 4, 2), 128: Tile(16, 16, 8, 2), 256: Tile(16, 16, 8, 1)},
}
# float32 is computed in float32 (see online_softmax.score_keys): on scalar units but for MFMA, with small tiles.
_SCALAR: Mapping[int, Tile] = {64: Tile(32, 16, 8, 1), 128: Tile(32, 32, 8, 1), 256: Tile(32, 16, 8, 1)}
_PREFILL_FLOAT32: _Tiles = {
    MatrixUnit.WARPGROUP: _SCALAR,
    MatrixUnit.WARP: _SCALAR,
    MatrixUnit.MFMA: {128: Tile(64, 32, 8, 2), 256: Tile(64, 16, 8, 2)},
    MatrixUnit.WMMA: {256: Tile(16, 16, 8, 1)},
}
_DECODE_FLOAT32: _Tiles = {
    MatrixUnit.WARPGROUP: {256: Tile(16, 16, 8, 3)},
    MatrixUnit.WARP: {256: Tile(16, 16, 8, 3)},
    MatrixUnit.MFMA: {256: Tile(16, 16, 4, 2)},
    MatrixUnit.WMMA: {256: Tile(16, 16, 8, 1)},
}


def head_block(size: int) -> int:
    """Return how many numbers a program holds for a head of `size`: the next power of two."""
    return max(LEAST_BLOCK, 1 << (size - 1).bit_length())


def prefill_tile(device: Device, dtype: torch.dtype, key_size: int, value_size: int) -> Tile:
    """Return the tile of attention_prefill; ValueError for heads wider than 256."""
    return _tile(_PREFILL_FLOAT32 if dtype.itemsize == 4 else _PREFILL, device, dtype, key_size, value_size)


def decode_tile(device: Device, dtype: torch.dtype, key_size: int, value_size: int) -> Tile:
    """Return the tile of attention_decode; ValueError for heads wider than 256."""
    return _tile(_DECODE_FLOAT32 if dtype.itemsize == 4 else _DECODE, device, dtype, key_size, value_size)


def _tile(tiles: _Tiles, device: Device, dtype: torch.dtype, key_size: int, value_size: int) -> Tile:
    wider = max(head_block(key_size), head_block(value_size))
    by_width = tiles[matrix_unit(device)]
    if wider > max(by_width):
        raise ValueError(
            f"heads of {max(key_size, value_size)} numbers: attention on GPUs takes at most {max(by_width)}"
        )
    tile = next(tile for width, tile in sorted(by_width.items()) if wider <= width)
    while shared_memory(tile, device, dtype, key_size, value_size) > device.shared_memory_per_block:
        tile = _smaller(tile)
    return tile


def _smaller(tile: Tile) -> Tile:
    if tile.keys > LEAST_BLOCK:
        return replace(tile, keys=tile.keys // 2)
    if tile.num_stages > 1:
        return replace(tile, num_stages=tile.num_stages - 1)
    if tile.queries > LEAST_BLOCK:
        return replace(tile, queries=tile.queries // 2)
    raise ValueError("no tile fits into the shared memory of the device")


def shared_memory(tile: Tile, device: Device, dtype: torch.dtype, key_size: int, value_size: int) -> int:
    """Return a bound, in bytes, of the shared memory that Triton gives a program with this tile.

    Beside blocks of keys and values there are the softmax's weights, on their way from one product to the next. Queries
    stay there too on NVIDIA's GPUs, and have passed through before on AMD's.
    """
    buffers = blocks_in_flight(device, tile.queries, tile.num_stages)
    queries = tile.queries * head_block(key_size)
    keys = buffers * tile.keys * (head_block(key_size) + head_block(value_size)) + tile.queries * tile.keys
    numbers = queries + keys if device.capability else max(queries, keys)
    return numbers * dtype.itemsize + SCRATCH


def programs_at_once(tile: Tile, device: Device, dtype: torch.dtype, key_size: int, value_size: int) -> int:
    """Return how many programs with this tile a multiprocessor holds, if each thread takes all the registers it can."""
    by_memory = device.shared_memory_per_multiprocessor // shared_memory(tile, device, dtype, key_size, value_size)
    by_registers = device.registers_per_multiprocessor // (tile.num_warps * device.warp_size * _MOST_REGISTERS)
    return max(1, min(by_memory, by_registers))
