"""A cache that moves: built here, carried as one file, used elsewhere, where nothing is built again; and for CI."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from spaces import MODELS, Space, write_demo_manifest

pytestmark = pytest.mark.slow


def warm(space: Space, manifest: Path, output: str) -> Counter[tuple[str, str]]:
    """Build, and return how many tasks of each kind came to which end."""
    done = space.maxbuild("warm", manifest, "--output", output, "--json")
    assert done.returncode == 0, done.stderr
    return Counter((task["kind"], task["state"]) for task in json.loads(done.stdout)["tasks"])


def test_a_moved_cache_has_every_task_of_the_demo(demo_package: Path, space: Space, tmp_path: Path) -> None:
    """After export and import, at other paths of store, models, manifest and packages, `warm` finds all tasks done."""
    here = warm(space, write_demo_manifest(tmp_path / "here", models=MODELS), "packages")
    assert space.maxbuild("cache", "export", tmp_path / "cache.tar", "--scope", "demo").returncode == 0
    shutil.copytree(MODELS, tmp_path / "models of there")
    manifest = write_demo_manifest(tmp_path / "there", models=tmp_path / "models of there")
    there = Space(tmp_path / "there", tmp_path / "another store")
    done = there.maxbuild("cache", "import", tmp_path / "cache.tar")
    assert done.returncode == 0, done.stderr
    found = warm(there, manifest, "elsewhere")
    assert {state for _, state in found} == {"cached"}
    kinds = {"trace", "load", "samplers", "match", "compile", "build", "package"}
    assert {kind for kind, _ in found} == kinds == {kind for kind, _ in here}
    (package,) = (tmp_path / "there" / "elsewhere" / "demo").iterdir()
    assert there.maxbuild("verify", package).returncode == 0
    assert there.maxbuild("cache", "verify").returncode == 0


def test_a_cache_pruned_for_ci_compiles_nothing(demo_package: Path, space: Space, tmp_path: Path) -> None:
    """Weights and packages are gone, and the next `warm` loads, matches and packages; nothing is traced or compiled."""
    manifest = write_demo_manifest(tmp_path / "ci", models=MODELS)
    warm(space, manifest, "packages")
    assert space.maxbuild("cache", "export", tmp_path / "cache.tar").returncode == 0
    ci = Space(tmp_path / "ci", tmp_path / "store of ci")
    assert ci.maxbuild("cache", "import", tmp_path / "cache.tar").returncode == 0
    before = json.loads(ci.maxbuild("cache", "info", "--json").stdout)
    assert ci.maxbuild("cache", "prune", "--ci").returncode == 0
    after = json.loads(ci.maxbuild("cache", "info", "--json").stdout)
    assert {kind["kind"] for kind in after["kinds"]} == {"trace", "samplers", "compile", "build"}
    assert after["blob_bytes"] < before["blob_bytes"]
    states = warm(ci, manifest, "packages")
    assert {kind for kind, state in states if state == "built"} == {"load", "match", "package"}
    assert {kind for kind, state in states if state == "cached"} == {"trace", "samplers", "compile", "build"}
    assert ci.maxbuild("cache", "gc", "--max-size", "0").returncode == 0
    assert warm(ci, manifest, "packages").keys() == {(kind, "cached") for kind, _ in states}
