"""The rule by which attention is cut for a device: it fits every device, and it is the same whoever asks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from maxbuild.kernels.attention_tiles import (
    Tile,
    decode_tile,
    head_block,
    prefill_tile,
    programs_at_once,
    shared_memory,
)
from maxbuild.kernels.matrix_units import MatrixUnit, matrix_unit
from maxbuild.targets.devices import Device, device_of
from maxbuild.targets.spelling import all_targets, parse_target

DEVICES = [device_of(target) for target in all_targets() if target.api != "cpu"]
SIZES = [(16, 16), (64, 64), (80, 80), (96, 96), (128, 128), (192, 128), (256, 64), (256, 256)]


@pytest.mark.parametrize("device", DEVICES, ids=lambda device: device.target)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_every_head_size_fits_every_device(device: Device, dtype: torch.dtype) -> None:
    """Each tile needs at most what a block may have, in warps that make up at most the largest block."""
    for key_size, value_size in SIZES:
        for rule in (prefill_tile, decode_tile):
            tile = rule(device, dtype, key_size, value_size)
            assert shared_memory(tile, device, dtype, key_size, value_size) <= device.shared_memory_per_block
            assert tile.num_warps * device.warp_size <= device.max_threads_per_block
            assert min(tile.queries, tile.keys) >= 16
            assert programs_at_once(tile, device, dtype, key_size, value_size) >= 1


def test_a_smaller_memory_gets_a_smaller_tile() -> None:
    """The tile for an A100 is too large for an RTX A6000, which has the same instructions: keys are halved."""
    large, small = (
        prefill_tile(device_of(parse_target(target)), torch.bfloat16, 256, 256)
        for target in ("cuda:sm_80", "cuda:sm_86")
    )
    assert small == replace(large, keys=large.keys // 2)


def test_what_fits_nowhere_is_refused() -> None:
    """A device without shared memory to speak of gets an error, and not a launch that fails."""
    device = replace(DEVICES[0], shared_memory_per_block=8 << 10)
    with pytest.raises(ValueError, match="no tile fits"):
        prefill_tile(device, torch.bfloat16, 256, 256)


@pytest.mark.parametrize("sizes", [(257, 64), (64, 512)])
def test_wider_heads_are_refused(sizes: tuple[int, int]) -> None:
    """Heads of more than 256 numbers have no tile, be it keys or values that are wider."""
    with pytest.raises(ValueError, match=f"heads of {max(sizes)} numbers"):
        decode_tile(DEVICES[0], torch.bfloat16, *sizes)


def test_blocks_of_heads_are_powers_of_two() -> None:
    """A head's block holds it, is no longer than needed, and is one that matrix instructions take."""
    assert [head_block(size) for size in (1, 8, 16, 17, 64, 80, 96, 128, 192, 256)] == [
        16, 16, 16, 32, 64, 128, 128, 128, 256, 256,
    ]  # fmt: skip


def test_matrix_instructions_follow_from_the_table() -> None:
    """Warpgroups multiply on Hopper and the B200, not on Ada or the RTX Blackwells; CDNA and RDNA differ by warp."""
    units = {device.target: matrix_unit(device) for device in DEVICES}
    assert {target for target, unit in units.items() if unit is MatrixUnit.WARPGROUP} == {"cuda:sm_90", "cuda:sm_100"}
    assert {target for target, unit in units.items() if unit is MatrixUnit.WMMA} == {"hip:gfx1100"}
    assert units["cuda:sm_120"] is MatrixUnit.WARP
    assert units["hip:gfx90a"] is MatrixUnit.MFMA


def test_registers_limit_how_many_programs_run_at_once() -> None:
    """Four warps that take all registers they can leave room for one more such program on an SM of 64 Ki registers."""
    device = device_of(parse_target("cuda:sm_90"))
    assert programs_at_once(Tile(16, 64, 4, 2), device, torch.bfloat16, 64, 64) == 2
