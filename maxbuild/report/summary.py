"""What a build or a survey came to: the table of tasks, the failures in full, and one closing line."""

from __future__ import annotations

from collections import Counter

from maxbuild.engine import Report, State, TaskReport
from maxbuild.errors import MaxbuildError, TaskFailed
from maxbuild.report import units
from maxbuild.report.table import Cell, Column, table
from maxbuild.report.terminal import Style, Terminal
from maxbuild.report.words import WORDS, deferred, one_line, reasons, state_word

_COLUMNS = (
    Column("task", least=32, middle=True),
    Column("state"),
    Column("time", right=True),
    Column("size", right=True),
    Column("reason", least=12),
)


def tasks_table(report: Report, terminal: Terminal, *, afterwards: bool) -> str:
    """Return one line per task and per part that is not known yet.

    `afterwards` tells a finished build from a survey. The time of a cached task is that of another day: left out.
    """
    rows = [_row(task, afterwards=afterwards) for task in report.tasks]
    rows += [
        [Cell(deferred(part), Style.DIM), Cell("not known yet", Style.DIM), Cell(""), Cell(""), Cell("")]
        for part in report.deferred
    ]
    return table(_COLUMNS, rows, terminal)


def _row(task: TaskReport, *, afterwards: bool) -> list[Cell]:
    style = WORDS[task.state][1]
    ran = task.state is State.BUILT
    return [
        Cell(one_line(task.name), Style.DIM if style is Style.DIM else Style.PLAIN),
        Cell(state_word(task.state, afterwards=afterwards), style),
        Cell(units.duration(task.seconds) if ran and task.seconds is not None else ""),
        Cell(units.size(task.bytes) if task.bytes is not None else "", Style.PLAIN if ran else Style.DIM),
        Cell(reasons(task)),
    ]


def closing_line(name: str, report: Report, seconds: float, *, afterwards: bool) -> str:
    """Return one line: how many tasks came to which end, and how long all took in `seconds`."""
    counts = Counter(state_word(task.state, afterwards=afterwards) for task in report.tasks)
    told = ", ".join(f"{count} {word}" for word, count in sorted(counts.items(), key=_in_order_of_states))
    told = f"{one_line(name)}: {told or 'no tasks'}"
    if not afterwards:
        return told + (", more not known yet" if report.deferred else "")
    saved = sum(task.seconds or 0.0 for task in report.in_state(State.CACHED))
    return f"{told} in {units.duration(seconds)}" + (f" ({units.duration(saved)} saved)" if saved >= 1 else "")


def nothing_to_do(report: Report, seconds: float) -> str:
    """Return the one line for a build in which nothing had to run."""
    return f"nothing to do: {units.plural(len(report.tasks), 'task')} cached ({units.duration(seconds)})"


def failures(report: Report) -> list[MaxbuildError]:
    """Return the error of every failed task, each naming its task."""
    return [_naming(task, task.error) for task in report.in_state(State.FAILED) if task.error is not None]


def _naming(task: TaskReport, error: MaxbuildError) -> MaxbuildError:
    """Return `error`, put under the name of its task where it does not say it."""
    if task.name in error.message:
        return error
    return TaskFailed(f"task `{task.name}` failed", causes=(error.message, *error.causes), hint=error.hint)


def _in_order_of_states(entry: tuple[str, int]) -> int:
    order = ["built", "would build", "fetched", "cached", "failed", "skipped", "interrupted", "waiting", "not started"]
    return order.index(entry[0])
