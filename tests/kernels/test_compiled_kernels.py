"""Kernels compiled for GPUs that are not there: they fit, spill nothing, and use the matrix units."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import triton

from maxbuild.inspect.checks import Outcome
from maxbuild.inspect.kernel import Kernel, Launch
from maxbuild.inspect.kernels import Aim, inspect_kernel
from maxbuild.kernels import attention_tiles, experts_tiles
from maxbuild.kernels.attention import attend
from maxbuild.kernels.compiled import CompiledKernel, compile_launch, record_launches
from maxbuild.kernels.experts import expert_matmul
from maxbuild.targets.devices import Device, device_of
from maxbuild.targets.spelling import parse_target

pytestmark = pytest.mark.slow

SIZE = 64
DTYPE = torch.bfloat16


@pytest.fixture(scope="module", autouse=True)
def triton_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let Triton compile anew, and leave nothing in the home folder."""
    with triton.knobs.cache.scope():
        triton.knobs.cache.dir = str(tmp_path_factory.mktemp("triton"))
        yield


@pytest.fixture(scope="module", params=["cuda:sm_86", "cuda:sm_90", "hip:gfx942", "hip:gfx1100"])
def device(request: pytest.FixtureRequest) -> Device:
    """Return a GPU of each kind of matrix instructions."""
    return device_of(parse_target(request.param))


def empty(*shape: int, dtype: torch.dtype = DTYPE) -> torch.Tensor:
    """Return a tensor without data."""
    return torch.empty(shape, dtype=dtype, device="meta")


def inspected(compiled: CompiledKernel, device: Device) -> Kernel:
    """Return what the kernel's file says, having passed all checks of such files."""
    name, warps, stages = compiled.name, compiled.num_warps, compiled.num_stages
    launch = Launch(name, name, name, compiled.shared_memory, warps, stages, device.warp_size, name)
    aim = Aim(parse_target(device.target), device, with_instructions=True)
    kernel, checks = inspect_kernel("region", launch, compiled.binary, aim)
    assert [check for check in checks if check.outcome is Outcome.FAILED] == []
    assert kernel.usage is not None
    assert kernel.mix is not None
    return kernel


def test_attention_fits_and_spills_nothing(device: Device) -> None:
    """With all options, every kernel stays within its bound of shared memory and keeps its registers."""
    tensors = (*(empty(2, heads, 64, SIZE) for heads in (8, 2, 2)), empty(2, 2, 512, SIZE), empty(2, 2, 512, SIZE))
    positions = empty(2, 64, dtype=torch.int64), empty(512, dtype=torch.int64)
    options = (0.125, 1024, 30.0, empty(8))
    launches = record_launches(lambda: attend(*tensors, *positions, *options, device=device))
    kernels = {launch.kernel.__name__: inspected(compile_launch(launch, device), device) for launch in launches}
    assert {name for name, kernel in kernels.items() if kernel.usage.stack} == set()
    for name, rule in (
        ("attention_prefill", attention_tiles.prefill_tile),
        ("attention_decode", attention_tiles.decode_tile),
    ):
        tile = rule(device, DTYPE, SIZE, SIZE)
        assert kernels[name].shared_memory <= attention_tiles.shared_memory(tile, device, DTYPE, SIZE, SIZE)
        assert kernels[name].mix.matrix > 0


def test_experts_fit_and_spill_nothing(device: Device) -> None:
    """Both forms stay within their bounds of shared memory and keep their registers."""
    tensors = empty(512, 1024), empty(8, 512, 1024).transpose(1, 2), empty(8, dtype=torch.int32)
    launches = record_launches(lambda: expert_matmul(*tensors, device=device))
    tiles = experts_tiles.few_rows_tile(device, DTYPE), experts_tiles.many_rows_tile(device, DTYPE)
    for launch, tile in zip(launches, tiles, strict=True):
        kernel = inspected(compile_launch(launch, device), device)
        assert kernel.usage.stack == 0
        assert kernel.shared_memory <= experts_tiles.shared_memory(tile, device, DTYPE)
        assert kernel.mix.matrix > 0
