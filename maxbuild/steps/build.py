"""build: the library of a region, from the C++ code that `compile` left; targets whose code is the same share it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maxbuild.engine import Job
from maxbuild.targets.environment import clear_environment, require_compiler
from maxbuild.targets.recipe import Recipe, carry_out
from maxbuild.targets.toolkits import toolkit_of

LIBRARY = "library"


def run(job: Job) -> Mapping[str, Path]:
    """Carry out `recipe` for the target's API in params (`cpu`, `cuda` or `hip`); leaves `library`, a shared object."""
    params: Mapping[str, Any] = job.params
    require_compiler()
    clear_environment()
    recipe = Recipe.from_json(json.loads(job.inputs["recipe"].read_bytes()))
    toolkit, folder = job.scratch / "toolkit", job.scratch / "library"
    if params["api"] != "cpu":
        toolkit_of(params["api"]).lay_out(toolkit)
    folder.mkdir()
    return {LIBRARY: carry_out(recipe, folder, toolkit)}
