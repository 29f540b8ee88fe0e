"""`maxbuild warm --lint`: what tasks touch beyond what they declare is told, and fails the command."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cli_world import WISHES, World
from spaces import ROOT, Space
from syrupy.assertion import SnapshotAssertion

from maxbuild.cli.helpers import open_lint

Capture = pytest.CaptureFixture[str]


def linted(world: World, **changes: object) -> tuple[int, str]:
    """Build with a lint, as the command does."""
    with open_lint(wanted=True) as linting:
        assert linting is not None
        wishes = replace(WISHES, executor=linting.executor, lint=linting.reports, **changes)
        return world.warm(wishes)


def test_what_is_undeclared_is_told_and_fails_the_command(
    world: World, steady: Callable[[str], str], snapshot: SnapshotAssertion
) -> None:
    """The build is done all the same: the second one finds nothing to do, and so nothing to watch."""
    world.edit("weights", "peek")
    code, said = linted(world)
    assert code == 1
    assert steady(said) == snapshot
    code, said = linted(world)
    assert code == 0
    assert said.endswith("lint: nothing ran, so nothing was watched\n")


def test_a_clean_build_is_told_as_such(world: World, capsys: Capture) -> None:
    """Nothing undeclared: exit code 0, and the document says which tasks were watched."""
    code, said = linted(world, json=True)
    assert code == 0
    assert "lint: 0 undeclared paths in 5 tasks that ran" in said
    watched = json.loads(capsys.readouterr().out)["lint"]
    assert sorted(task["task"].split()[0] for task in watched) == ["compile", "compile", "load", "package", "trace"]
    assert all(task["findings"] == [] for task in watched)


def test_a_lint_does_not_go_with_another_executor(empty_space: Space) -> None:
    """Two places for a task to run in make no sense."""
    done = empty_space.maxbuild("warm", ROOT / "manifests" / "demo.yaml", "--lint", "--executor", "dask://h:1")
    assert done.returncode == 2
    assert done.stderr.startswith("error: `--lint` and `--executor` do not go together\n")


@pytest.mark.slow
def test_loading_the_demo_touches_nothing_undeclared(demo_package: Path, space: Space) -> None:
    """The real command, the real steps, all they open; a variable that would lead torch elsewhere does not."""
    manifest = ROOT / "manifests" / "demo.yaml"
    misled = replace(space, environment={"TORCHINDUCTOR_CACHE_DIR": str(space.folder / "elsewhere")})
    done = misled.maxbuild("warm", manifest, "--lint", "--rerun", "load main", "--rerun", "trace main")
    assert done.returncode == 0, done.stderr
    assert "lint: 0 undeclared paths in 2 tasks that ran" in done.stderr
