"""`warm`: what is said and left on stdout, and with which code it ends."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from cli_world import World
from syrupy.assertion import SnapshotAssertion

from maxbuild.cli.building import Wishes

Steady = Callable[[str], str]


def test_first_build_tells_each_task_and_leaves_paths_alone_on_stdout(
    world: World, steady: Steady, snapshot: SnapshotAssertion, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stdout holds nothing but the packages; stderr a line per task as it ends, and a table with reasons."""
    code, said = world.warm()
    assert code == 0
    assert capsys.readouterr().out == "packages/toy/cpu\n"
    assert steady(said) == snapshot


def test_null_build_is_one_line(world: World, steady: Steady) -> None:
    """A build in which nothing ran says so in one line."""
    world.warm()
    assert (world.warm()[0], steady(world.warm()[1])) == (0, "nothing to do: 5 tasks cached (#.## s)\n")


def test_verbose_shows_the_table_of_a_null_build(world: World, steady: Steady, snapshot: SnapshotAssertion) -> None:
    """--verbose shows all tasks also when nothing ran."""
    world.warm()
    assert steady(world.warm(Wishes("toy", 1, verbose=True))[1]) == snapshot


def test_change_is_told_from_old_to_new(world: World, steady: Steady, snapshot: SnapshotAssertion) -> None:
    """Only what changed runs, and the table says what changed."""
    world.warm()
    world.replan(length=1024)
    world.edit("weights", "4 5 6")
    assert steady(world.warm()[1]) == snapshot


def test_failure_is_told_in_full_with_its_task(world: World, steady: Steady, snapshot: SnapshotAssertion) -> None:
    """A failed task ends the build with code 1; its error names the task, why, and where the log is."""
    world.edit("weights", "bad")
    code, said = world.warm(Wishes("toy", 1, keep_going=True))
    assert code == 1
    assert steady(said) == snapshot


def test_failure_without_keep_going_leaves_tasks_not_started(world: World) -> None:
    """What never started is told as such, not as failed."""
    world.replan(roles=("main", "draft"))
    world.edit("weights", "bad")
    assert "not started" in world.warm()[1]


def test_narrow_terminal_cuts_and_a_file_does_not(world: World) -> None:
    """On a terminal no line of the table is wider than it; elsewhere names are whole."""
    long = "cpu:an-architecture-with-a-name-that-does-not-end-soon"
    world.replan(targets=(long,))
    world.edit("weights", "bad")
    narrow, wide = world.warm(width=72)[1], world.warm()[1]
    table = narrow[narrow.index("task ") :].split("\n\n")[0]
    assert max(len(line) for line in table.splitlines()) <= 72
    assert f"compile main/decoder @ {long}" in wide


def test_json_is_one_document(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """--json leaves one document: tasks with states and reasons old → new, and the packages."""
    world.warm()
    world.replan(length=1024)
    capsys.readouterr()
    world.warm(Wishes("toy", 1, json=True))
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "maxbuild.warm.v1"
    assert document["packages"] == ["packages/toy/cpu"]
    trace = next(task for task in document["tasks"] if task["name"] == "trace main")
    assert trace["state"] == "built"
    assert trace["reasons"] == [{"reason": "param", "what": "max_length", "old": "512", "new": "1024"}]
    assert document["counts"]["cached"] == 4


def test_json_tells_errors(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """A failed task is in the document too, with its error in parts."""
    world.edit("weights", "bad")
    code, _ = world.warm(Wishes("toy", 1, json=True))
    document = json.loads(capsys.readouterr().out)
    failed = next(task for task in document["tasks"] if task["state"] == "failed")
    assert (code, failed["error"]["message"]) == (1, "the file is cut short")
