"""Progress: what is counted, when the live display appears, and that it leaves the terminal clean."""

from __future__ import annotations

import io
import sys

import pytest

from maxbuild.engine import GraphGrew, State, TaskFinished, TaskProgress, TaskReport, TaskStarted
from maxbuild.errors import TaskFailed
from maxbuild.report.progress import PlainLines, Tally, show_progress
from maxbuild.report.terminal import Terminal


def done(name: str, state: State, **more: object) -> TaskFinished:
    """Return the event that a task has come to `state`."""
    return TaskFinished(TaskReport(name, "toy", state, **more))  # type: ignore[arg-type]


def test_tally_counts_each_task_once() -> None:
    """A task that finishes again, because a consumer lost what it left, counts once, as what it is now."""
    now = [10.0]
    tally = Tally(clock=lambda: now[0])
    events = [
        GraphGrew(("a", "b", "c")),
        done("a", State.CACHED, bytes=5),
        TaskStarted("b"),
        TaskProgress("b", 3, 12),
        TaskProgress("gone", 1, 2),
    ]
    for event in events:
        tally.take(event)
    now[0] = 12.5
    assert (tally.left, tally.count(State.CACHED), tally.elapsed) == (2, 1, 2.5)
    assert tally.running["b"].share == 0.25
    tally.take(done("b", State.BUILT, bytes=7))
    tally.take(done("a", State.BUILT, bytes=5))
    assert (tally.left, tally.count(State.CACHED), tally.count(State.BUILT), tally.bytes) == (1, 0, 2, 12)
    assert not tally.running


def test_plain_lines_tell_what_ran_once() -> None:
    """A line per task that ran; none for cached and skipped ones, none twice."""
    out = io.StringIO()
    lines = PlainLines(Terminal(out))
    error = TaskFailed("task `load` failed", causes=["RuntimeError: bad"])
    built = done("trace", State.BUILT, seconds=1.5, bytes=2_000)
    for event in (done("x", State.CACHED), built, built, done("load", State.FAILED, error=error), TaskStarted("y")):
        lines(event)
    assert out.getvalue() == "built    trace  1.50 s  2.0 kB\nfailed   load  RuntimeError: bad\n"


def test_display_appears_with_the_first_task_that_runs() -> None:
    """A build with nothing to do draws nothing on a terminal."""
    out = io.StringIO()
    with show_progress(Terminal(out, width=80, live=True)) as show:
        show(GraphGrew(("a",)))
        show(done("a", State.CACHED))
    assert out.getvalue() == ""


@pytest.mark.parametrize("colour", [True, False])
def test_display_shows_what_runs_and_goes_away(colour: bool) -> None:
    """While a task runs its name and the counts are drawn; at the end the cursor is back and the lines are gone."""
    out = io.StringIO()
    with show_progress(Terminal(out, width=60, colour=colour, live=True)) as show:
        show(GraphGrew(tuple(f"compile main/region-{index} @ cpu" for index in range(20))))
        show(done("compile main/region-0 @ cpu", State.CACHED))
        for index in range(1, 20):
            show(TaskStarted(f"compile main/region-{index} @ cpu"))
        show(TaskProgress("compile main/region-1 @ cpu", 1, 2))
        show(done("compile main/region-19 @ cpu", State.FAILED, error=TaskFailed("no")))
    drawn = out.getvalue()
    assert "compile main/region-1 @ cpu" in drawn
    assert "and 6 more" in drawn
    assert "1 failed" in drawn
    assert "1 cached" in drawn
    assert drawn.rstrip().endswith("\x1b[2K")
    assert ("\x1b[32m" in drawn) is colour
    assert "rich" in sys.modules
