"""Keys and content do not depend on where, when and as whom a build runs, nor on where maxbuild lies (G1, G2)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from toys import LEDGER

ROOT = Path(__file__).parents[2]
TURKISH = "tr_TR.utf8"
"""A locale in which the lower case of `I` is not `i`."""


@dataclass(frozen=True)
class Place:
    """What a build may find around it; `moved` is whether maxbuild and its demo lie in another folder."""

    folder: str
    umask: int
    environment: dict[str, str] = field(default_factory=dict)
    moved: bool = False


HERE = Place("here", 0o022, {"LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0"})
ELSEWHERE = [
    Place(
        "another user's folder/with a blank",
        0o077,
        {"LC_ALL": "C", "PYTHONHASHSEED": "1", "USER": "nobody", "LOGNAME": "nobody", "TZ": "Asia/Kathmandu"},
    ),
    Place("a/deep/er/folder", 0o000, {"LC_ALL": TURKISH, "LANG": TURKISH, "PYTHONHASHSEED": "random", "TZ": "UTC"}),
    Place("moved", 0o027, {"LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "4294967295"}, moved=True),
]


def keys_from(place: Place, base: Path) -> dict[str, Any]:
    """Return what a process tells that runs in this place: `HOME`, working folder and store lie there too."""
    folder = base / place.folder
    home = folder / "home"
    home.mkdir(parents=True)
    checkout = copy_of_checkout(folder / "checkout") if place.moved else ROOT
    known = {name: value for name, value in os.environ.items() if name in ("PATH", "CXX", "LD_LIBRARY_PATH")}
    paths = [str(checkout), str(checkout / "tests" / "engine")]
    done = subprocess.run(
        [sys.executable, "-P", checkout / "tests" / "engine" / "places.py", checkout, folder / "build"],
        cwd=home,
        env={
            **known,
            "HOME": str(home),
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONDONTWRITEBYTECODE": "1",
            LEDGER: str(folder / "ledger"),
            **place.environment,
        },
        umask=place.umask,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told.pop("engine") == str(checkout)
    return told


def copy_of_checkout(folder: Path) -> Path:
    """Copy what a process needs that runs from `folder`, and return it."""
    for name in ("maxbuild", "manifests", "examples/models", "tests/engine"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what is told in an ordinary place."""
    return keys_from(HERE, tmp_path_factory.mktemp("place"))


@pytest.mark.parametrize("place", ELSEWHERE, ids=lambda place: place.folder)
def test_no_place_is_in_a_key_or_in_what_a_task_leaves(place: Place, here: dict[str, Any], tmp_path: Path) -> None:
    """Keys and digests of toys, one of them in a process of its own, and keys of the demo's tasks are those of here.

    What differs: HOME, user, working folder, checkout, store, umask, locale, time zone and hash seed.
    """
    assert len(here["toys"]) == 8
    kinds = {"trace", "load", "samplers", "match", "compile", "build", "package"}
    assert {name.split()[0] for name in here["demo"]} == kinds
    assert keys_from(place, tmp_path) == here
