"""Compile a region for an NVIDIA or AMD GPU with AOTInductor, where there is no GPU, no driver and no toolkit.

The torch that does it may be one for CPUs alone.

Invariant: what is made is a function of the region, the target and the versions of torch and Triton; all that a device
would have been asked is answered from the table of devices. The process that did it compiles for no other target.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maxbuild.architectures.lowerings import Lowering
from maxbuild.kernels.attention import attend
from maxbuild.kernels.experts import expert_matmul
from maxbuild.models.export import export_function
from maxbuild.models.graph import InputSpec, RegionGraph
from maxbuild.targets import inductor
from maxbuild.targets.archive import FOLDER, Compiled, read_metadata
from maxbuild.targets.devices import Device, device_of
from maxbuild.targets.recorder import Recorder
from maxbuild.targets.retarget import retarget
from maxbuild.targets.spelling import Target
from maxbuild.targets.toolkits import toolkit_of
from maxbuild.targets.upstream import Kernel, Kernels, pose_as

SCHEMA = "maxbuild.launches.v1"

_RANGES: Mapping[str, Any] = {"cpp.enable_kernel_profile": True, "profiler_mark_wrapper_call": True}
"""Inductor's settings by which a region calls torch's `RECORD_FUNCTION` around itself and around each kernel."""

MULTIPROCESSORS = InputSpec("value", "int8", ("multiprocessors",))
"""The last input of every region for a GPU: a tensor with as many elements as the device has multiprocessors, of which
none is read. Products of one target differ in that number, and so do targets whose C++ code is otherwise the same."""

_TYPICAL_MULTIPROCESSORS = 132


def compile_region(
    graph: RegionGraph,
    target: Target,
    scratch: Path,
    *,
    lowerings: Mapping[str, Lowering] | None = None,
    emit_ptx: bool = False,
    gpu_profiling: str = "off",
    rank: int = 0,
) -> Compiled:
    """Compile `graph` for `target`; weights, caches and values are its inputs, and after them MULTIPROCESSORS.

    scratch: a folder for what is made on the way. lowerings: what takes the place of a custom architecture's operators.
    emit_ptx: put each kernel's PTX beside its binary, and let the region fall back on it; CUDA alone has such a thing.
    gpu_profiling: `on` lets the region tell torch's profiler of each kernel by name. rank: of the configurations that
    kernels are compiled in, 0 for those that are run without timing. Raise TaskFailed where Inductor or Triton fails.
    """
    from torch._inductor import aoti_compile_and_package  # noqa: PLC0415 - costly to import

    archive = scratch / "archive.pt2"
    device = device_of(target)
    kernels = Kernels(device, rank)
    toolkit = toolkit_of(target.api)
    recorder = Recorder(scratch, target.cpu_level, toolkit.link)
    with inductor.failing_as(target, lambda: kernels.failures):
        pose_as(kernels, toolkit, emit_ptx=emit_ptx)
        with torch.no_grad(), inductor.vectors_of(target.cpu_level):
            exported = _export(graph, device, lowerings or {})
            settings = _options(recorder.front)
            if gpu_profiling == "on":
                _forget_places(exported)
                settings |= _RANGES
            aoti_compile_and_package(exported, package_path=str(archive), inductor_configs=settings)
        return Compiled(recorder.recipe(), read_metadata(archive), _beside(kernels, target, emit_ptx=emit_ptx))


def _export(graph: RegionGraph, device: Device, own: Mapping[str, Lowering]) -> torch.export.ExportedProgram:
    """Return the graph as a program on the device. Its shapes are worked out on the meta device, which needs none."""
    lowerings = _Lowerings(device, own)
    module = graph.to_module(torch.device("meta"), lowerings.by_operator())

    def call(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        *given, counted = inputs
        lowerings.multiprocessors = counted.shape[0]
        outputs: Sequence[Tensor] = module(*given)
        return outputs

    sizes = {**inductor.TYPICAL_SIZES, "multiprocessors": _TYPICAL_MULTIPROCESSORS}
    exported = export_function(call, [*graph.inputs, MULTIPROCESSORS], sizes, "meta")
    retarget(exported, torch.device("cuda", 0))
    return exported


class _Lowerings:
    """What operators of ours become; `multiprocessors` is the size of the region's last input while it is traced."""

    def __init__(self, device: Device, own: Mapping[str, Lowering]) -> None:
        self._device, self._own = device, own
        self.multiprocessors: Any = None

    def by_operator(self) -> Mapping[str, Callable[..., Any]]:
        # Functions of their own, since a graph asks for names, which methods and partial ones lack.
        def attend_on_device(*arguments: Any) -> Tensor:
            return attend(*arguments, device=self._device, multiprocessors=self.multiprocessors)

        def multiply_on_device(rows: Tensor, weights: Tensor, offsets: Tensor, *_none: None) -> Tensor:
            return expert_matmul(rows, weights, offsets, device=self._device)

        return {
            "maxbuild.attention.default": attend_on_device,
            "maxbuild.expert_matmul.default": multiply_on_device,
            **{name: lowering.for_device(self._device) for name, lowering in self._own.items()},
        }


def _forget_places(exported: torch.export.ExportedProgram) -> None:
    """Drop the lines of source that nodes come from: ranges would name them, and with them folders of this host."""
    for node in exported.graph.nodes:
        node.meta.pop("stack_trace", None)


def _options(compiler: Path) -> dict[str, Any]:
    return {
        **inductor.options(compiler),
        # Kernels are compiled in the midst of code generation, and the C++ code is written with what is known of them.
        "triton.autotune_at_compile_time": True,
        # In this process, where `pose_as` has been.
        "compile_threads": 1,
        "aot_inductor.embed_kernel_binary": False,
        # A launcher of torch's own, which would load kernels into a device at once.
        "use_static_cuda_launcher": False,
        # Upstream times whether it pays.
        "shape_padding": False,
        # It computes constants on the device (`constant_fold_uniform_value` in fx_passes/joint_graph.py).
        "joint_graph_constant_folding": False,
    }


def _beside(kernels: Kernels, target: Target, *, emit_ptx: bool) -> Mapping[str, bytes]:
    """Return what lies in the archive beside the library: the kernels, and what there is to know of them."""
    compiled = [kernel for _, kernel in sorted(kernels.compiled.items())]
    files = {kernel.file: kernel.binary for kernel in compiled}
    if emit_ptx:
        # The name under which the library looks for it (`upstream.pose_as`).
        files |= {Path(kernel.file).with_suffix(".ptx").name: (kernel.ptx or "").encode() for kernel in compiled}
    document = {"schema": SCHEMA, "target": target.spelling, "kernels": [_entry(kernel) for kernel in compiled]}
    return {
        **{f"{FOLDER}/{name}": content for name, content in files.items()},
        "region/maxbuild.json": json.dumps(document, sort_keys=True, indent=1).encode(),
    }


def _entry(kernel: Kernel) -> Mapping[str, str | int]:
    return {
        "name": kernel.name,
        "file": kernel.file,
        "entry": kernel.entry,
        "shared_memory": kernel.shared_memory,
        "num_warps": kernel.num_warps,
        "num_stages": kernel.num_stages,
        "warp_size": kernel.warp_size,
        "source": kernel.source,
    }
