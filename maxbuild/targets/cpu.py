"""Compile a region for a CPU baseline with AOTInductor.

Invariant: nothing of the building host enters the artifact: neither its instruction set beyond the target's, nor its
number of cores, nor the folder it was built in.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from maxbuild.errors import TaskFailed
from maxbuild.models.export import export_function
from maxbuild.models.graph import RegionGraph
from maxbuild.models.lowering import LOWERINGS
from maxbuild.targets import inductor
from maxbuild.targets.spelling import Target

# The sizes that Inductor plans for where it must guess (how to split a loop among threads, say): a short prefill.
_TYPICAL_SIZES: Mapping[str, int] = {"batch": 2, "sequence": 64, "logits": 3, "keys": 256, "cache": 512}


def compile_region(graph: RegionGraph, target: Target, output: Path, scratch: Path) -> None:
    """Compile `graph` for `target` into the `.pt2` file `output`; weights, caches and values are its inputs.

    scratch: a folder for what is made on the way. Raise TaskFailed where Inductor or the C++ compiler fails.
    """
    from torch._inductor import aoti_compile_and_package  # noqa: PLC0415 - costly to import

    scratch = scratch.absolute()
    archive = scratch / "archive.pt2"
    module = graph.to_module(torch.device("cpu"), LOWERINGS["cpu"])
    try:
        options = inductor.options(target, inductor.compiler_without_paths(scratch))
        with torch.no_grad(), inductor.vectors_of(target):
            exported = export_function(lambda inputs: module(*inputs), graph.inputs, _TYPICAL_SIZES, "cpu")
            aoti_compile_and_package(exported, package_path=str(archive), inductor_configs=options)
        inductor.rewrite_archive(archive, output, scratch)
    except OSError:
        raise  # a full disk is the engine's to tell
    except Exception as error:
        if isinstance(error.__cause__, OSError):
            raise error.__cause__ from None
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise TaskFailed(
            f"could not compile a region for `{target.spelling}`",
            causes=[f"{type(error).__name__}: {lines[0] if lines else ''}"],
        ) from error
