"""Runs of the past: a table of them, and how one is named in a sentence."""

from __future__ import annotations

from collections.abc import Sequence

from maxbuild.engine import State
from maxbuild.engine.journal import Run, RunState
from maxbuild.report import units
from maxbuild.report.summary import counts_text
from maxbuild.report.table import Cell, Column, table
from maxbuild.report.terminal import Style, Terminal
from maxbuild.report.words import one_line

_COLUMNS = (
    Column("run"),
    Column("manifest", least=12),
    Column("begun", right=True),
    Column("took", right=True),
    Column("came to", least=20),
    Column("kept"),
)
_STYLES = {RunState.INTERRUPTED: Style.YELLOW, RunState.DIED: Style.RED, RunState.RUNNING: Style.CYAN}


def runs_table(runs: Sequence[Run], now: float, terminal: Terminal) -> str:
    """Return one line per run; `now` is in seconds since 1970."""
    return table(_COLUMNS, [_row(run, now) for run in runs], terminal)


def _row(run: Run, now: float) -> list[Cell]:
    took = "" if run.ended is None else units.duration(run.ended - run.begun)
    return [
        Cell(one_line(run.id)),
        Cell(one_line(run.scope)),
        Cell(units.ago(now - run.begun), Style.DIM),
        Cell(took),
        Cell(outcome(run), _STYLES.get(run.state, Style.PLAIN)),
        Cell("pinned" if run.pinned else ""),
    ]


def outcome(run: Run) -> str:
    """Return what a run came to: how it ended, where that was not by itself, and the counts of its tasks."""
    counts = counts_text({State(state): count for state, count in run.counts.items()}, afterwards=True)
    return counts if run.state is RunState.ENDED else f"{run.state}: {counts}"


def run_name(run: Run) -> str:
    """Return a run as it is named in a sentence."""
    return f"run {one_line(run.id)} of {one_line(run.scope)}"


def run_line(run: Run, now: float) -> str:
    """Return a run with its age and what it came to."""
    return f"{run_name(run)}, {units.ago(now - run.begun)}: {outcome(run)}"


def run_content(run: Run) -> dict[str, object]:
    """Return a run for a JSON document, without its tasks; times in seconds since 1970."""
    return {
        "id": run.id,
        "manifest": run.scope,
        "state": str(run.state),
        "begun": run.begun,
        "ended": run.ended,
        "command": list(run.command),
        "maxbuild": run.version,
        "pinned": run.pinned,
        "counts": dict(run.counts),
    }
