"""The difference between two runs: tasks that came and went, and what is other in those that have another key."""

from __future__ import annotations

from dataclasses import dataclass

from maxbuild.engine import Document, Explanation, Store, compare
from maxbuild.engine.journal import Run, RunTask
from maxbuild.report import units
from maxbuild.report.reasons import reason_lines
from maxbuild.report.runs import run_content, run_name
from maxbuild.report.terminal import Style, Terminal
from maxbuild.report.words import one_line, state_word, value


@dataclass(frozen=True, slots=True)
class Change:
    """A task whose key is another: every difference, none where `gone` says of which runs the document is gone."""

    old: RunTask
    new: RunTask
    explanations: tuple[Explanation, ...] = ()
    gone: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    """Two runs side by side, each list in the order in which the runs tell their tasks; `equal` counts the others."""

    old: Run
    new: Run
    added: tuple[RunTask, ...]
    removed: tuple[RunTask, ...]
    changed: tuple[Change, ...]
    unknown: tuple[tuple[RunTask, RunTask], ...]
    """Tasks without a key in one of the runs: they were skipped or not started."""
    equal: int


def compare_runs(old: Run, new: Run, store: Store) -> Difference:
    """Compare two runs by the documents of their tasks, from the store or from the journals."""
    both = [(old.tasks[name], new.tasks[name]) for name in new.tasks if name in old.tasks]
    unknown = [(before, after) for before, after in both if before.key is None or after.key is None]
    known = [pair for pair in both if pair not in unknown]
    changed = [(before, after) for before, after in known if before.key != after.key]
    return Difference(
        old,
        new,
        added=tuple(task for name, task in new.tasks.items() if name not in old.tasks),
        removed=tuple(task for name, task in old.tasks.items() if name not in new.tasks),
        changed=tuple(_change(before, after, old, new, store) for before, after in changed),
        unknown=tuple(unknown),
        equal=len(known) - len(changed),
    )


def _change(before: RunTask, after: RunTask, old: Run, new: Run, store: Store) -> Change:
    first, second = _document(before, store), _document(after, store)
    if first is not None and second is not None:
        return Change(before, after, explanations=compare(first, second))
    gone = tuple(run.id for run, document in ((old, first), (new, second)) if document is None)
    return Change(before, after, gone=gone)


def _document(task: RunTask, store: Store) -> Document | None:
    """Return the document of `task`: that of its result, or what the journal kept where it left none."""
    record = store.read_record(task.key) if task.key is not None else None
    try:
        return record.document if record is not None else task.document
    except (ValueError, RecursionError):
        return task.document


def difference_text(found: Difference, now: float, terminal: Terminal) -> str:
    """Return the difference as a person reads it; `now` is in seconds since 1970."""
    ages = [f"{run_name(run)} ({units.ago(now - run.begun)})" for run in (found.old, found.new)]
    lines = [f"{ages[0]} → {ages[1]}"]
    lines += [f"{terminal.paint('removed', Style.RED)}  {one_line(task.name)}" for task in found.removed]
    lines += [f"{terminal.paint('added', Style.GREEN)}    {one_line(task.name)}" for task in found.added]
    for change in found.changed:
        lines += ["", *_change_lines(change, terminal)]
    if found.unknown:
        lines += ["", *(_unknown_line(before, after) for before, after in found.unknown)]
    equal = f"{units.plural(found.equal, 'task')} with equal keys"
    is_same = not (found.added or found.removed or found.changed or found.unknown)
    return "\n".join([*lines, *([] if is_same else [""]), f"no difference: {equal}" if is_same else equal])


def _change_lines(change: Change, terminal: Terminal) -> list[str]:
    name = terminal.paint(one_line(change.new.name), Style.BOLD)
    if change.gone:
        keys = f"{value(change.old.key)} → {value(change.new.key)}"
        return [name, f"  key {keys}; its document is gone from {' and '.join(f'run {run}' for run in change.gone)}"]
    return [name, *reason_lines(change.explanations, {}, terminal)]


def _unknown_line(before: RunTask, after: RunTask) -> str:
    states = [state_word(task.state, afterwards=True) for task in (before, after)]
    return f"{one_line(before.name)}: {states[0]} → {states[1]}, not comparable"


def difference_content(found: Difference) -> dict[str, object]:
    """Return the difference for a JSON document."""
    return {
        "old": run_content(found.old),
        "new": run_content(found.new),
        "added": [task.name for task in found.added],
        "removed": [task.name for task in found.removed],
        "changed": [
            {
                "name": change.new.name,
                "old_key": change.old.key,
                "new_key": change.new.key,
                "differences": [explanation.to_json() for explanation in change.explanations],
                "document_gone_from": list(change.gone),
            }
            for change in found.changed
        ],
        "unknown": [
            {"name": before.name, "old_state": str(before.state), "new_state": str(after.state)}
            for before, after in found.unknown
        ],
        "equal": found.equal,
    }
