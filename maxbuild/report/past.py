"""Why one task ran in a run of the past, as text and for documents."""

from __future__ import annotations

from collections.abc import Sequence

from maxbuild.engine import Explanation, State, Store, TaskReport
from maxbuild.engine.journal import RunTask
from maxbuild.report import units
from maxbuild.report.documents import task_content
from maxbuild.report.reasons import reason_lines
from maxbuild.report.terminal import Style, Terminal
from maxbuild.report.words import WORDS, one_line, state_word

RAN = frozenset({State.BUILT, State.FETCHED, State.FAILED, State.INTERRUPTED})
"""The states of tasks that something happened to."""


def reasons_of(task: RunTask, store: Store) -> tuple[Explanation, ...]:
    """Return why `task` ran; of one that was found done, why its result was made, as far as the store knows."""
    if task.explanations or task.key is None or task.state is not State.CACHED:
        return task.explanations
    record = store.read_record(task.key)
    return record.explanations if record is not None else ()


def past_text(task: RunTask, reasons: Sequence[Explanation], terminal: Terminal) -> str:
    """Return what became of `task`, a line per reason, and what it failed with."""
    case = terminal.paint(state_word(task.state, afterwards=True), WORDS[task.state][1])
    took = f" in {units.duration(task.seconds)}" if task.state is State.BUILT and task.seconds is not None else ""
    lines = [f"{terminal.paint(one_line(task.name), Style.BOLD)}: {case}{took}"]
    if task.state is State.CACHED:
        lines.append(
            "  its result was made because of" if reasons else "  why its result was made is not known any more"
        )
    lines += reason_lines(reasons, {}, terminal)
    if task.error is not None:
        lines += [f"  {terminal.paint(one_line(text), Style.RED)}" for text in (task.error.message, *task.error.causes)]
    return "\n".join(lines)


def past_content(task: RunTask, reasons: Sequence[Explanation]) -> dict[str, object]:
    """Return a task of a run for a JSON document; `reasons` of a cached one are those that its result was made for."""
    report = TaskReport(
        task.name, task.kind, task.state, tuple(reasons), task.seconds, task.bytes, task.error, task.key
    )
    return task_content(report)
