"""Files for tests of manifests: a small manifest, whole or in parts, and how to load it or to see what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from maxbuild.errors import ManifestError, Problem

HEAD = "version: 1\nname: demo\ntargets: [cpu:x86-64-v2]\n"
MODELS = "models:\n  main: {model_path: organization/name}\n"


def write(folder: Path, files: dict[str, str]) -> Path:
    """Write `files`, texts by relative path, and return the path of the first."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder / next(iter(files))


def problems_of(work: Callable[[], object]) -> tuple[Problem, ...]:
    """Return the problems that `work` ends with."""
    with pytest.raises(ManifestError) as caught:
        work()
    return caught.value.problems
