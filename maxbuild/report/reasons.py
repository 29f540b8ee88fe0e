"""Why tasks run, in full: every reason with its old and its new value, and the file or task an input comes from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from maxbuild.engine import Explanation, Reason, Report, SourceFile, State, Store, Task, TaskReport
from maxbuild.report import units
from maxbuild.report.documents import task_content
from maxbuild.report.terminal import Style, Terminal
from maxbuild.report.words import WORDS, change, one_line, reasons

_LONGEST_VALUE = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """Why one task runs, or ran the last time it did."""

    report: TaskReport
    explanations: tuple[Explanation, ...]
    sources: Mapping[str, str]
    """Where each input comes from, by role."""
    waits_for: tuple[TaskReport, ...] = ()
    """The tasks that would run before it, when it is not known whether it will."""


def answer(name: str, report: Report, store: Store, scope: str) -> Answer:
    """Return why the task `name` of a survey would run, or if it is up to date, why it ran last."""
    task = next(task for task in report.tasks if task.name == name)
    explanations = task.explanations or _past(task, store, scope)
    waits_for: tuple[TaskReport, ...] = ()
    if task.state is State.WAITING:
        before = report.task_graph.with_producers([name])
        waits_for = tuple(other for other in report.in_state(State.WOULD_RUN) if other.name in before)
    return Answer(task, explanations, _sources(report.task_graph.task(name)), waits_for)


def _past(task: TaskReport, store: Store, scope: str) -> tuple[Explanation, ...]:
    """Return why the result of `task` was made: as told in `scope`, else as told wherever it was made."""
    if task.key is None:
        return ()
    last = store.last(scope, task.name)
    if last is not None and last.key == task.key and last.explanations:
        return last.explanations
    record = store.read_record(task.key)
    return () if record is None else record.explanations


def _sources(task: Task) -> dict[str, str]:
    return {
        role: str(source.path) if isinstance(source, SourceFile) else f"`{source.task}`"
        for role, source in task.inputs.items()
    }


def answer_text(told: Answer, terminal: Terminal) -> str:
    """Return an answer as a person reads it: what is the case, then a line per reason."""
    task = told.report
    word, style = WORDS[task.state]
    lines = [f"{terminal.paint(one_line(task.name), Style.BOLD)}: {terminal.paint(_case(task, word), style)}"]
    match task.state:
        case State.WAITING:
            lines += [f"  {one_line(other.name)}: {reasons(other)}" for other in told.waits_for]
        case State.CACHED:
            lines.append(_history(task))
    lines += reason_lines(told.explanations, told.sources, terminal)
    return "\n".join(line for line in lines if line)


def _case(task: TaskReport, word: str) -> str:
    match task.state:
        case State.CACHED:
            return "up to date"
        case State.WAITING:
            return "not known before these have run"
        case _:
            return word


def _history(task: TaskReport) -> str:
    took = [units.duration(task.seconds)] if task.seconds is not None else []
    took += [units.size(task.bytes)] if task.bytes is not None else []
    return f"the last run took {', '.join(took)}; it was because of" if took else "its last run was because of"


def reason_lines(explanations: Iterable[Explanation], sources: Mapping[str, str], terminal: Terminal) -> list[str]:
    """Return a line per reason, old → new; `sources` says by role where an input comes from."""
    rows = [_cells(explanation, sources) for explanation in explanations]
    widths = [max((len(row[index]) for row in rows), default=0) for index in range(2)]
    lines = []
    for kind, what, changed, source in rows:
        line = f"  {kind:<{widths[0]}}  {what:<{widths[1]}}  {changed}".rstrip()
        lines.append(line + (terminal.paint(f"  from {source}", Style.DIM) if source else ""))
    return lines


def _cells(explanation: Explanation, sources: Mapping[str, str]) -> tuple[str, str, str, str]:
    match explanation.reason:
        case Reason.NEW:
            return str(explanation.reason), "nothing was built under this name before", "", ""
        case Reason.FORCED:
            return str(explanation.reason), "it was asked for", "", ""
        case Reason.INPUT:
            source = sources.get(explanation.what, "")
        case _:
            source = ""
    changed = change(explanation, longest=_LONGEST_VALUE)
    return str(explanation.reason), one_line(explanation.what), changed, one_line(source)


def answers_content(answers: Sequence[Answer]) -> list[dict[str, object]]:
    """Return answers for a JSON document; `reasons` of a cached task are those of its last run."""
    return [
        {
            **task_content(told.report),
            "reasons": [
                {**explanation.to_json(), "source": told.sources.get(explanation.what)}
                for explanation in told.explanations
            ],
            "waits_for": [other.name for other in told.waits_for],
        }
        for told in answers
    ]
