"""The GPU that is not there: what torch and Triton are told of it, and how graphs are moved onto it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from triton.runtime.errors import OutOfResources

from maxbuild.models.export import export_function
from maxbuild.models.graph import InputSpec
from maxbuild.targets import virtual
from maxbuild.targets.devices import device_of
from maxbuild.targets.retarget import retarget
from maxbuild.targets.spelling import parse_target
from maxbuild.targets.upstream import Kernels

CUDA = torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("spelling", "capability", "arch"),
    [
        ("cuda:sm_86", (8, 6), 86),
        ("cuda:sm_120", (12, 0), 120),
        ("hip:gfx90a", (9, 0), "gfx90a"),
        ("hip:gfx942", (9, 4), "gfx942"),
        ("hip:gfx1100", (11, 0), "gfx1100"),
    ],
)
def test_architectures_are_told_as_drivers_tell_them(
    spelling: str, capability: tuple[int, int], arch: int | str
) -> None:
    """CUDA by capability, ROCm by name; Triton compiles for the same."""
    device = device_of(parse_target(spelling))
    facts = virtual.properties(device)
    assert (facts.major, facts.minor) == virtual.capability(device) == capability
    target = virtual.VirtualDriver(device).get_current_target()
    assert (target.backend, target.arch, target.warp_size) == (spelling.partition(":")[0], arch, facts.warp_size)
    assert virtual.device_interface(device).get_compute_capability() == arch


def tensors_of(exported: torch.export.ExportedProgram) -> list[Tensor]:
    """Return what the nodes of a graph compute."""
    values = [node.meta.get("val") for node in exported.graph.nodes]
    return [value for value in values if isinstance(value, Tensor)]


def test_a_graph_moves_with_its_symbols() -> None:
    """Every value, argument and example is on the device; dynamic sizes stay the same symbols."""

    def function(inputs: list[Tensor]) -> list[Tensor]:
        return [inputs[0] @ inputs[1] + torch.arange(inputs[0].shape[0], device=inputs[0].device)[:, None]]

    specs = [InputSpec("value", "float32", ("sequence", 8)), InputSpec("weight", "float32", (8, 4))]
    exported = export_function(function, specs, {"sequence": 6}, "meta")
    before = [str(tensor.shape) for tensor in tensors_of(exported)]

    retarget(exported, CUDA)

    assert [str(tensor.shape) for tensor in tensors_of(exported)] == before
    assert any("s" in shape.removeprefix("torch.Size") for shape in before)
    assert {tensor.device for tensor in tensors_of(exported)} == {CUDA}
    assert {node.kwargs["device"] for node in exported.graph.nodes if "device" in node.kwargs} == {CUDA}
    (tensors,), _ = exported.example_inputs
    assert [(tensor.device, tuple(tensor.shape)) for tensor in tensors] == [(CUDA, (6, 8)), (CUDA, (8, 4))]


class GreedyKernel:
    """What Inductor's tuner is to `Kernels`, with a kernel that takes shared memory as its configurations say."""

    size_hints = None
    custom_kernel = False

    def __init__(self, *shared: int) -> None:
        self.inductor_meta = {"kernel_name": "greedy"}
        self.configs = [SimpleNamespace(kwargs={}, shared=amount) for amount in shared]
        self.saved: list[int] = []

    def _precompile_config(self, config: SimpleNamespace) -> SimpleNamespace:
        def make_launcher() -> SimpleNamespace:
            limit = 232448
            if config.shared > limit:
                raise OutOfResources(config.shared, limit, "shared memory")
            facts = SimpleNamespace(name="greedy", shared=config.shared, num_warps=4, num_stages=2)
            return SimpleNamespace(bin=SimpleNamespace(metadata=facts, asm={"cubin": b"cubin", "ptx": "ptx"}))

        return SimpleNamespace(make_launcher=make_launcher)

    def save_gpu_kernel(self, _stream: int, launcher: SimpleNamespace) -> None:
        self.saved.append(launcher.bin.metadata.shared)


def test_a_configuration_that_does_not_fit_makes_way_for_the_next() -> None:
    """The first that the device has room for is compiled, and it alone."""
    kernels, tuner = Kernels(device_of(parse_target("cuda:sm_90"))), GreedyKernel(262144, 65536, 32768)
    kernels.compile(tuner)
    assert kernels.compiled["greedy"].shared_memory == 65536
    assert tuner.saved == [65536]


def test_a_kernel_that_does_not_fit_at_all_is_told_with_what_there_is() -> None:
    """The kernel, what it needs, the architecture and what that has."""
    kernels = Kernels(device_of(parse_target("cuda:sm_90")))
    with pytest.raises(RuntimeError):
        kernels.compile(GreedyKernel(262144))
    assert kernels.failures == ["kernel `greedy` needs 262144 bytes of shared memory, `sm_90` has 232448"]


def test_a_kernels_file_is_named_after_it_however_long_that_is() -> None:
    """Names stay apart and short enough for a file system, even where they begin alike."""
    kernels = Kernels(device_of(parse_target("hip:gfx942")))
    assert kernels.file_of("triton_poi_fused_add_0") == "triton_poi_fused_add_0.hsaco"
    long = {kernels.file_of(f"{'triton_poi_fused' + '_add' * 100}_{number}") for number in range(2)}
    assert len(long) == 2
    assert all(len(name) < 255 for name in long)
