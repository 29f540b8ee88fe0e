"""The look-up: whether a task whose inputs are known is done already, and if not, why it has to run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from maxbuild.engine.digest import Digest, TaskKey
from maxbuild.engine.document import Document
from maxbuild.engine.explain import Explanation, Reason, compare
from maxbuild.engine.records import Last, Record, Result
from maxbuild.engine.store import Store
from maxbuild.engine.task import SourceFile, Task
from maxbuild.errors import TaskFailed


class Hit(NamedTuple):
    """The work is done: its record, whose blobs are all there."""

    key: TaskKey
    record: Record


class Miss(NamedTuple):
    """The work is to be done, for at least one reason."""

    key: TaskKey
    document: Document
    explanations: tuple[Explanation, ...]


def describe(task: Task, results: Mapping[str, Result], sources: Mapping[Path, Digest]) -> Document:
    """Return the document of `task`, whose producers all have results and whose source files all have digests.

    Raises TaskFailed when a producer left no such member of a family.
    """
    inputs: dict[str, Digest] = {}
    for role, source in task.inputs.items():
        if isinstance(source, SourceFile):
            inputs[role] = sources[source.path]
            continue
        digest = results[source.task].outputs.get(source.output)
        if digest is None:
            raise TaskFailed(
                f"task `{task.name}` lacks its input `{role}`",
                causes=[f"task `{source.task}` left no `{source.output}`"],
            )
        inputs[role] = digest
    return Document.of(task, inputs)


def look_up(store: Store, scope: str, name: str, document: Document, *, forced: bool) -> Hit | Miss:
    """Return whether the work `document` describes is done, and if not, why it has to run under `name` in `scope`."""
    if forced:
        return Miss(document.key(), document, (Explanation(Reason.FORCED, name),))
    record = _newest(store, scope, name, document)
    key = document.key() if record is None else record.key
    record = record or store.read_record(key)
    if record is not None:
        gaps = store.gaps(record)
        return Miss(key, document, gaps) if gaps else Hit(key, record)
    return Miss(key, document, _differences(name, document, store.last(scope, name)))


def _newest(store: Store, scope: str, name: str, document: Document) -> Record | None:
    """Return the record of the newest result under `name`, if it answers `document`: told without hashing that."""
    key = store.newest(scope).get(name)
    record = store.read_record(key) if key is not None else None
    return record if record is not None and document.is_spelled(record.text) else None


def note_hit(store: Store, scope: str, name: str, record: Record) -> None:
    """Make the document of work found done the newest under its name: the next difference is told against it."""
    if not store.is_newest(scope, name, record):
        store.set_last(scope, name, Last(record.text, ()))


def _differences(name: str, document: Document, last: Last | None) -> tuple[Explanation, ...]:
    if last is None:
        return (Explanation(Reason.NEW, name),)
    try:
        before = last.document
    except ValueError:  # a row that somebody else wrote
        return (Explanation(Reason.NEW, name),)
    return compare(before, document) or (Explanation(Reason.EVICTED, "result"),)
