"""Compile a region for an NVIDIA or AMD GPU with AOTInductor, where there is no GPU, no driver and no toolkit.

The torch that does it may be one for CPUs alone.

Invariant: the artifact is a function of the region, the target and the versions of torch and Triton; all that a device
would have been asked is answered from the table of devices. The process that did it compiles for no other target.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maxbuild.kernels.attention import attend
from maxbuild.kernels.experts import expert_matmul
from maxbuild.models.export import export_function
from maxbuild.models.graph import RegionGraph
from maxbuild.targets import cuda, hip, inductor
from maxbuild.targets.devices import Device, device_of
from maxbuild.targets.retarget import retarget
from maxbuild.targets.spelling import Target
from maxbuild.targets.toolkit import Toolkit
from maxbuild.targets.upstream import Kernel, Kernels, pose_as

SCHEMA = "maxbuild.launches.v1"

_LEVEL = "x86-64-v2"
"""The C++ code of a region allocates, sizes grids and launches: wider vectors would gain nothing, and there are hosts
of such GPUs, with small CPUs, that lack them."""

_TOOLKITS: Mapping[str, Callable[[Path], Toolkit]] = {"cuda": cuda.make_toolkit, "hip": hip.make_toolkit}


def compile_region(graph: RegionGraph, target: Target, output: Path, scratch: Path, *, emit_ptx: bool = False) -> None:
    """Compile `graph` for `target` into the `.pt2` file `output`; weights, caches and values are its inputs.

    scratch: a folder for what is made on the way. emit_ptx: put each kernel's PTX beside its binary, and let the region
    fall back on it; CUDA alone has such a thing. Raise TaskFailed where Inductor, Triton or the C++ compiler fails.
    """
    from torch._inductor import aoti_compile_and_package  # noqa: PLC0415 - costly to import

    scratch = scratch.absolute()
    archive = scratch / "archive.pt2"
    device = device_of(target)
    kernels = Kernels(device)
    with inductor.failing_as(target, lambda: kernels.failures):
        toolkit = _TOOLKITS[target.api](scratch / "toolkit")
        pose_as(kernels, toolkit, emit_ptx=emit_ptx)
        with torch.no_grad(), inductor.vectors_of(_LEVEL):
            exported = _export(graph, device)
            settings = _options(inductor.compiler_front(scratch, _LEVEL, toolkit.link))
            aoti_compile_and_package(exported, package_path=str(archive), inductor_configs=settings)
        inductor.rewrite_archive(archive, output, scratch, _beside(kernels, target, emit_ptx=emit_ptx))


def _export(graph: RegionGraph, device: Device) -> torch.export.ExportedProgram:
    """Return the graph as a program on the device. Its shapes are worked out on the meta device, which needs none."""
    module = graph.to_module(torch.device("meta"), _lowerings(device))
    exported = export_function(lambda inputs: module(*inputs), graph.inputs, inductor.TYPICAL_SIZES, "meta")
    retarget(exported, torch.device("cuda", 0))
    return exported


def _lowerings(device: Device) -> Mapping[str, Callable[..., Any]]:
    # Functions of their own, since a graph asks for names, which partial ones lack.
    def attend_on_device(*arguments: Any) -> Tensor:
        return attend(*arguments, device=device)

    def multiply_on_device(rows: Tensor, weights: Tensor, offsets: Tensor, *_none: None) -> Tensor:
        return expert_matmul(rows, weights, offsets, device=device)

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
        **{f"{inductor.ARCHIVE_FOLDER}/{name}": content for name, content in files.items()},
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
