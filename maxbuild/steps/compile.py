"""compile: one region for one target, with weights outside."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maxbuild.engine import Job
from maxbuild.errors import TaskFailed
from maxbuild.targets.environment import clear_environment, compiler_command, use_folder

ARTIFACT = "artifact"


def run(job: Job) -> Mapping[str, Path]:
    """Compile the region graph `region` for the target in params; leaves `artifact`, a `.pt2` file."""
    params: Mapping[str, Any] = job.params
    _require_compiler()
    clear_environment()
    # The folder is this task's own: what another one left in it would be an input that no key names.
    use_folder(job.scratch / "inductor")
    # Imported only now: torch reads the environment when it is imported.
    from maxbuild.models.graph import RegionGraph  # noqa: PLC0415
    from maxbuild.targets.cpu import compile_region  # noqa: PLC0415
    from maxbuild.targets.spelling import parse_target  # noqa: PLC0415

    graph = RegionGraph.from_json(json.loads(job.inputs["region"].read_bytes()))
    output = job.scratch / "region.pt2"
    compile_region(graph, parse_target(params["target"]), output, job.scratch)
    return {ARTIFACT: output}


def _require_compiler() -> None:
    if compiler_command() is None:
        raise TaskFailed(
            f"no C++ compiler: `{os.environ.get('CXX') or 'g++'}` is not on the PATH",
            hint="install one (Debian, Ubuntu: `apt-get install g++`; Fedora: `dnf install gcc-c++`), or set CXX",
        )
    if shutil.which("strip") is None:
        raise TaskFailed("`strip` is not on the PATH", hint="install binutils, which the C++ compiler needs too")
