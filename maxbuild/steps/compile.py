"""compile: one region for one target, up to the C++ code that `build` makes a library of; weights stay outside."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from maxbuild.engine import Job, canonical_json
from maxbuild.errors import TaskFailed
from maxbuild.targets.archive import write_code
from maxbuild.targets.environment import clear_environment, require_compiler, use_folder
from maxbuild.targets.parts import missing_parts
from maxbuild.targets.spelling import Target, parse_target

CODE = "code"
RECIPE = "recipe"
LOWERINGS = "lowerings"

# By name, for two reasons: only what a target needs is imported, and only that is part of its compiles' keys.
COMPILERS: Final[Mapping[str, str]] = {
    "cpu": "maxbuild.targets.cpu",
    "cuda": "maxbuild.targets.gpu",
    "hip": "maxbuild.targets.gpu",
}
"""For each target API the module whose `compile_region` does the work."""


def run(job: Job) -> Mapping[str, Path]:
    """Compile the region graph `region` for the target in params.

    inputs: `region`, and `lowerings` where it holds operators of a custom architecture. Leaves `code`, a `.pt2` file
    that lacks the library, and `recipe`, which tells how that is built.
    """
    params: Mapping[str, Any] = job.params
    options = {name: value for name, value in params.items() if name != "target"}
    target = parse_target(params["target"])
    _require_parts(target)
    clear_environment()
    # The folder is this task's own: what another one left in it would be an input that no key names.
    use_folder(job.scratch.absolute() / "inductor")
    # Imported only now: torch reads the environment when it is imported.
    from maxbuild.architectures.lowerings import read_lowerings  # noqa: PLC0415
    from maxbuild.models.graph import RegionGraph  # noqa: PLC0415

    compiler = importlib.import_module(COMPILERS[target.api])
    graph = RegionGraph.from_json(json.loads(job.inputs["region"].read_bytes()))
    lowerings = read_lowerings(job.inputs.get(LOWERINGS), job.scratch.absolute() / LOWERINGS)
    compiled = compiler.compile_region(graph, target, job.scratch.absolute(), lowerings=lowerings, **options)
    code, recipe = job.scratch / "code.pt2", job.scratch / "recipe.json"
    write_code(compiled, code)
    recipe.write_bytes(canonical_json(compiled.recipe.to_json()))
    return {CODE: code, RECIPE: recipe}


def _require_parts(target: Target) -> None:
    require_compiler()
    missing = missing_parts(target)
    if missing:
        raise TaskFailed(
            f"parts are missing to build for `{target.spelling}`",
            causes=[f"`{part.name}` is not installed: {part.why}" for part in missing],
            hint="\n".join(part.install_hint for part in missing),
        )
