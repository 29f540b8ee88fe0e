"""Steps of the plan that also tell what they found imported and noted, what they imported, and what they drew."""

from __future__ import annotations

import gc
import importlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from maxbuild.engine import Job


def chance(job: Job) -> Mapping[str, Path]:
    """Leave a number that numpy draws, in `told`."""
    import numpy

    told = job.scratch / "told"
    told.write_text(json.dumps({"chance": numpy.random.random()}))
    return {"told": told}


def run(job: Job) -> Mapping[str, Path]:
    """Carry out the step `local["run"]`, and leave `told`: modules, and what names the folder `local["elsewhere"]`."""
    kind = str(job.local["kind"])
    found, noted = sorted(sys.modules), sorted(_holders_of(str(job.local["elsewhere"])))
    outputs = importlib.import_module(f"maxbuild.steps.{kind}").run(job)
    drawn = json.loads(chance(job)["told"].read_text())
    told = job.scratch / "told"
    told.write_text(json.dumps({"found": found, "noted": noted, "at the end": sorted(sys.modules), **drawn}))
    return {**outputs, "told": told}


def _holders_of(folder: str) -> Iterator[str]:
    """Yield what of all objects there are names `folder`, but for the job itself."""
    gc.unfreeze()  # a nursery has frozen what it imported
    for holder in gc.get_objects():
        for held in gc.get_referents(holder):
            if isinstance(held, str) and folder in held and held != folder:
                yield f"{type(holder).__name__}: {held}"
