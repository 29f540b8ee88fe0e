"""Compile a region for a CPU baseline with AOTInductor.

Invariant: nothing of the building host enters what is made: neither its instruction set beyond the target's, nor its
number of cores, nor the folder it was built in.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from maxbuild.architectures.lowerings import Lowering
from maxbuild.models import operators  # noqa: F401 - registers what the shims below name
from maxbuild.models.export import export_function
from maxbuild.models.graph import RegionGraph
from maxbuild.models.lowering import LOWERINGS
from maxbuild.targets import inductor
from maxbuild.targets.archive import Compiled, read_metadata
from maxbuild.targets.recorder import Recorder
from maxbuild.targets.spelling import Target

# Expert matmuls go to torch's own grouped kernel, by the C interface through which compiled regions call all kernels.
_EXPERT_ARGUMENTS = (
    "(AtenTensorHandle rows, AtenTensorHandle weights, AtenTensorHandle* offsets, AtenTensorHandle* bias,"
    " int32_t* out_dtype, AtenTensorHandle* result)"
)
_EXPERT_SHIM = (
    '__attribute__((visibility("hidden"))) AOTITorchError aoti_torch_cpu_expert_matmul'
    + _EXPERT_ARGUMENTS
    + " { return aoti_torch_cpu__grouped_mm(rows, weights, offsets, bias, out_dtype, result); }"
)


def compile_region(
    graph: RegionGraph, target: Target, scratch: Path, *, lowerings: Mapping[str, Lowering] | None = None
) -> Compiled:
    """Compile `graph` for `target`; weights, caches and values are its inputs.

    scratch: a folder for what is made on the way. lowerings: what takes the place of a custom architecture's operators.
    Raise TaskFailed where Inductor fails.
    """
    from torch._inductor import aoti_compile_and_package  # noqa: PLC0415 - costly to import

    archive = scratch / "archive.pt2"
    recorder = Recorder(scratch, target.arch)
    own = {name: lowering.for_device(None) for name, lowering in (lowerings or {}).items()}
    module = graph.to_module(torch.device("cpu"), {**LOWERINGS, **own})
    with inductor.failing_as(target):
        settings = {
            **inductor.options(recorder.front),
            "aot_inductor.custom_ops_to_c_shims": _shims_for(graph),
        }
        with torch.no_grad(), inductor.vectors_of(target.arch):
            exported = export_function(lambda inputs: module(*inputs), graph.inputs, inductor.TYPICAL_SIZES, "cpu")
            aoti_compile_and_package(exported, package_path=str(archive), inductor_configs=settings)
        return Compiled(recorder.recipe(), read_metadata(archive), {})


def _shims_for(graph: RegionGraph) -> dict[Any, list[str]]:
    """Return the C functions that stand for operators of ours, where they are used: torch 2.11 lacks what they call."""
    if not any(node.operator == "maxbuild.expert_matmul.default" for node in graph.nodes):
        return {}
    return {torch.ops.maxbuild.expert_matmul.default: [_EXPERT_SHIM]}
