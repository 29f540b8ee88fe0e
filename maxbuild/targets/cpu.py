"""Compile a region for a CPU baseline with AOTInductor.

Invariant: nothing of the building host enters the artifact: neither its instruction set beyond the target's, nor its
number of cores, nor the folder it was built in.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from maxbuild.errors import TaskFailed
from maxbuild.models.experts import expert_matmul  # noqa: F401 - registers the operator
from maxbuild.models.export import dynamic_shapes, example_tensor
from maxbuild.models.graph import RegionGraph
from maxbuild.models.lowering import LOWERINGS
from maxbuild.targets.spelling import Target

# The sizes that Inductor plans for where it must guess (how to split a loop among threads, say): a short prefill.
_TYPICAL_SIZES: Mapping[str, int] = {"batch": 2, "sequence": 64, "logits": 3, "keys": 256, "cache": 512}

# Width of the vectors, in bits, that Inductor may use at each level; below v3 it has no vectors to offer.
_VECTOR_BITS = {"x86-64-v2": 1, "x86-64-v3": 256, "x86-64-v4": 512}

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


class _Region(nn.Module):
    """The region as torch.export wants it: a function of one list."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__()
        self._graph = graph

    def forward(self, inputs: list[Tensor]) -> tuple[Tensor, ...]:
        result: tuple[Tensor, ...] = self._graph(*inputs)
        return result


def compile_region(graph: RegionGraph, target: Target, output: Path) -> None:
    """Compile `graph` for `target` into the `.pt2` file `output`; weights, caches and values are its inputs.

    Raise TaskFailed where Inductor or the C++ compiler fails.
    """
    from torch._inductor import aoti_compile_and_package  # noqa: PLC0415 - costly to import

    output.parent.mkdir(parents=True, exist_ok=True)
    module = _Region(graph.to_module(torch.device("cpu"), LOWERINGS["cpu"]))
    inputs = [example_tensor(spec, _TYPICAL_SIZES, "cpu") for spec in graph.inputs]
    try:
        with torch.no_grad():
            exported = torch.export.export(
                module, (inputs,), dynamic_shapes=(dynamic_shapes(graph.inputs),), strict=False
            )
            aoti_compile_and_package(exported, package_path=str(output), inductor_configs=_options(target))
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise TaskFailed(
            f"could not compile a region for `{target.spelling}`",
            causes=[f"{type(error).__name__}: {lines[0] if lines else ''}"],
        ) from error


def _options(target: Target) -> dict[str, Any]:
    """Return Inductor's options for `target`."""
    return {
        "cpp.march": target.arch,
        "cpp.simdlen": _VECTOR_BITS[target.arch],
        # Without this the number of cores of this host is written into every parallel loop.
        "cpp.dynamic_threads": True,
        # The target says what instructions there are; asking the compiler and this host costs seconds and may differ.
        "cpp.vec_isa_ok": True,
        "aot_inductor.package_constants_in_so": False,
        # A precompiled header costs more than one compile gains by it, and it would outlive this process.
        "aot_inductor.precompile_headers": False,
        "aot_inductor.custom_ops_to_c_shims": {torch.ops.maxbuild.expert_matmul.default: [_EXPERT_SHIM]},
    }
