"""What a build or a survey came to: the table of tasks, the failures in full, and one closing line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from maxbuild.engine import Report, State, TaskReport
from maxbuild.errors import MaxbuildError, TaskFailed
from maxbuild.report import units
from maxbuild.report.table import Cell, Column, table
from maxbuild.report.terminal import Style, Terminal
from maxbuild.report.words import WORDS, deferred, one_line, reasons, state_word

if TYPE_CHECKING:
    from maxbuild.engine.remote import RemoteStatistics

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
    told = f"{one_line(name)}: {counts_text(Counter(task.state for task in report.tasks), afterwards=afterwards)}"
    if not afterwards:
        return told + (", more not known yet" if report.deferred else "")
    saved = sum(task.seconds or 0.0 for task in report.in_state(State.CACHED, State.FETCHED))
    return f"{told} in {units.duration(seconds)}" + (f" ({units.duration(saved)} saved)" if saved >= 1 else "")


def counts_text(counts: Mapping[State, int], *, afterwards: bool) -> str:
    """Return how many tasks came to which end, `2 built, 3 cached`."""
    words: Counter[str] = Counter()
    for state, count in counts.items():
        words[state_word(state, afterwards=afterwards)] += count
    told = ", ".join(f"{count} {word}" for word, count in sorted(words.items(), key=_in_order_of_states))
    return told or "no tasks"


def nothing_to_do(report: Report, seconds: float) -> str:
    """Return the one line for a build in which nothing had to run."""
    return f"nothing to do: {units.plural(len(report.tasks), 'task')} cached ({units.duration(seconds)})"


def work_found(name: str, report: Report, unplaced: Sequence[Path], terminal: Terminal) -> str:
    """Return what a survey of the manifest `name` found to do: a table, the packages to place, and a closing line."""
    open_tasks = replace(report, tasks=[task for task in report.tasks if task.state is not State.CACHED])
    lines = [tasks_table(open_tasks, terminal, afterwards=False), ""] if open_tasks.tasks or report.deferred else []
    lines += [f"package `{one_line(str(path))}` is not there as it should be" for path in unplaced]
    return "\n".join([*lines, closing_line(name, report, 0.0, afterwards=False)])


def log_hint(report: Report, run: str, terminal: Terminal) -> str | None:
    """Return how to see what the first failed task that has a log printed, in the words of a hint; None without one."""
    failed = next((task for task in report.in_state(State.FAILED) if task.log is not None), None)
    if failed is None:
        return None
    label = terminal.paint("hint:", Style.CYAN)
    return f'{label} `maxbuild log "{one_line(failed.name)}"` prints its log; this was run {run}'


def remote_line(passed: RemoteStatistics) -> str:
    """Return one line on what passed between a build and its remote cache."""
    asked = f"{passed.hits} of {units.plural(passed.hits + passed.misses, 'result')} found"
    told = (
        f"remote cache: {asked}, {units.size(passed.fetched_bytes)} fetched, {units.size(passed.stored_bytes)} stored"
    )
    return told + (f"; {one_line(passed.trouble)}" if passed.trouble else "")


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
