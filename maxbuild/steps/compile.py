"""compile: one region for one target, with weights outside."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from maxbuild.engine import Job
from maxbuild.errors import TaskFailed
from maxbuild.targets.environment import clear_environment, compiler_command, use_folder
from maxbuild.targets.parts import missing_parts
from maxbuild.targets.spelling import Target, parse_target

ARTIFACT = "artifact"

# By name, for two reasons: only what a target needs is imported, and only that is part of its compiles' keys.
COMPILERS: Final[Mapping[str, str]] = {
    "cpu": "maxbuild.targets.cpu",
    "cuda": "maxbuild.targets.gpu",
    "hip": "maxbuild.targets.gpu",
}
"""For each target API the module whose `compile_region` does the work."""


def run(job: Job) -> Mapping[str, Path]:
    """Compile the region graph `region` for the target in params; leaves `artifact`, a `.pt2` file."""
    params: Mapping[str, Any] = job.params
    options = {name: value for name, value in params.items() if name != "target"}
    target = parse_target(params["target"])
    _require_parts(target)
    clear_environment()
    # The folder is this task's own: what another one left in it would be an input that no key names.
    use_folder(job.scratch.absolute() / "inductor")
    # Imported only now: torch reads the environment when it is imported.
    from maxbuild.models.graph import RegionGraph  # noqa: PLC0415

    compiler = importlib.import_module(COMPILERS[target.api])
    graph = RegionGraph.from_json(json.loads(job.inputs["region"].read_bytes()))
    output = job.scratch / "region.pt2"
    compiler.compile_region(graph, target, output, job.scratch, **options)
    return {ARTIFACT: output}


def _require_parts(target: Target) -> None:
    if compiler_command() is None:
        raise TaskFailed(
            f"no C++ compiler: `{os.environ.get('CXX') or 'g++'}` is not on the PATH",
            hint="install one (Debian, Ubuntu: `apt-get install g++`; Fedora: `dnf install gcc-c++`), or set CXX",
        )
    missing = missing_parts(target)
    if missing:
        raise TaskFailed(
            f"parts are missing to build for `{target.spelling}`",
            causes=[f"`{part.name}` is not installed: {part.why}" for part in missing],
            hint="\n".join(part.install_hint for part in missing),
        )
