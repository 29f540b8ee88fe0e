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

MULTIPROCESSORS = InputSpec("value", "int8", ("multiprocessors",))
"""The last input of every region for a GPU: a tensor with as many elements as the device has multiprocessors, of which
none is read. Products of one target differ in that number, and so do targets whose C++ code is otherwise the same."""

_TYPICAL_MULTIPROCESSORS = 132

LEVEL = "x86-64-v2"
"""The C++ code of a region allocates, sizes grids and launches: wider vectors would gain nothing, and there are hosts
of such GPUs, with small CPUs, that lack them."""


def compile_region(graph: RegionGraph, target: Target, scratch: Path, *, emit_ptx: bool = False) -> Compiled:
    """Compile `graph` for `target`; weights, caches and values are its inputs, and after them MULTIPROCESSORS.

    scratch: a folder for what is made on the way. emit_ptx: put each kernel's PTX beside its binary, and let the region
    fall back on it; CUDA alone has such a thing. Raise TaskFailed where Inductor or Triton fails.
    """
    from torch._inductor import aoti_compile_and_package  # noqa: PLC0415 - costly to import

    archive = scratch / "archive.pt2"
    device = device_of(target)
    kernels = Kernels(device)
    toolkit = toolkit_of(target.api)
    recorder = Recorder(scratch, LEVEL, toolkit.link)
    with inductor.failing_as(target, lambda: kernels.failures):
        pose_as(kernels, toolkit, emit_ptx=emit_ptx)
        with torch.no_grad(), inductor.vectors_of(LEVEL):
            exported = _export(graph, device)
            aoti_compile_and_package(exported, package_path=str(archive), inductor_configs=_options(recorder.front))
        return Compiled(recorder.recipe(), read_metadata(archive), _beside(kernels, target, emit_ptx=emit_ptx))


def _export(graph: RegionGraph, device: Device) -> torch.export.ExportedProgram:
    """Return the graph as a program on the device. Its shapes are worked out on the meta device, which needs none."""
    lowerings = _Lowerings(device)
    module = graph.to_module(torch.device("meta"), lowerings.by_operator())

    def call(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        *own, counted = inputs
        lowerings.multiprocessors = counted.shape[0]
        outputs: Sequence[Tensor] = module(*own)
        return outputs

    sizes = {**inductor.TYPICAL_SIZES, "multiprocessors": _TYPICAL_MULTIPROCESSORS}
    exported = export_function(call, [*graph.inputs, MULTIPROCESSORS], sizes, "meta")
    retarget(exported, torch.device("cuda", 0))
    return exported


class _Lowerings:
    """What operators of ours become; `multiprocessors` is the size of the region's last input while it is traced."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.multiprocessors: Any = None

    def by_operator(self) -> Mapping[str, Callable[..., Any]]:
        # Functions of their own, since a graph asks for names, which methods and partial ones lack.
        def attend_on_device(*arguments: Any) -> Tensor:
            return attend(*arguments, device=self._device, multiprocessors=self.multiprocessors)

        def multiply_on_device(rows: Tensor, weights: Tensor, offsets: Tensor, *_none: None) -> Tensor:
            return expert_matmul(rows, weights, offsets, device=self._device)

        return {"maxbuild.attention.default": attend_on_device, "maxbuild.expert_matmul.default": multiply_on_device}


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
