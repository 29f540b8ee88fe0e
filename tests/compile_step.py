"""The steps of a region in a process of their own, as the engine runs them, and regions of tiny models to compile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from model_families import make_config

from maxbuild.engine import canonical_json
from maxbuild.models.architecture import build_model
from maxbuild.models.outline import outline

SCRIPT = """
import json, sys
from pathlib import Path
from maxbuild.engine import Job
from maxbuild.steps import build, compile
from maxbuild.targets.archive import assemble
scratch, params = Path(sys.argv[2]), json.loads(sys.argv[3])
def carry_out(step, params, inputs):
    folder = scratch / step.__name__.rpartition(".")[2]
    folder.mkdir()
    return step.run(Job(params, inputs, folder, lambda *_: None))
compiled = carry_out(compile, params, {"region": Path(sys.argv[1])})
api = params["target"].partition(":")[0]
built = carry_out(build, {"api": api}, {"recipe": compiled["recipe"]})
assemble(compiled["code"], built["library"], scratch / "region.pt2")
print(scratch / "region.pt2")
"""


def compile_in(
    folder: Path, region: Path, target: str, params: Mapping[str, Any] | None = None, **environment: str
) -> Path:
    """Compile and build a region in `folder`, which is for temporary files too; return its `.pt2` file."""
    folder.mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(region), str(folder), json.dumps({"target": target, **(params or {})})],
        env={**os.environ, "TMPDIR": str(folder), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.splitlines()[-1])


def write_region(folder: Path, family: str, dtype: torch.dtype, region: str) -> Path:
    """Write the graph of one region of a tiny model into `folder` and return its file."""
    model = build_model(make_config(family), dtype, 512, trust_remote_code=False)
    path = folder / "region.json"
    path.write_bytes(canonical_json(outline(model, 512, use_subgraphs=True).regions[region].to_json()))
    return path
