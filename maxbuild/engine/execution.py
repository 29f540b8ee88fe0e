"""The execution of one task: lock, verify what it consumes, run, verify again, publish, put down the result.

What it consumes is proved before and after the run, so that no result lies under a key whose inputs it did not have.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from maxbuild.engine import disk
from maxbuild.engine.cancelled import Cancelled
from maxbuild.engine.children import Children
from maxbuild.engine.digest import Digest
from maxbuild.engine.executor import Executor, Order
from maxbuild.engine.holder import Holder
from maxbuild.engine.lookup import Miss
from maxbuild.engine.records import Last, Record, Result
from maxbuild.engine.report import State
from maxbuild.engine.sharing import Sharing, fetch_result, offer_result
from maxbuild.engine.steps import SteadyProgress
from maxbuild.engine.store import Store
from maxbuild.engine.task import Job, Kind, Progress, SourceFile, Task, Vouched, check_output_name
from maxbuild.errors import TaskFailed, WorkFound


class LostInput(Exception):
    """What a task consumes is missing, damaged or another than when the task was looked up."""

    def __init__(self, role: str) -> None:
        """Name the role of the input."""
        super().__init__(role)
        self.role = role


class Assignment(NamedTuple):
    """One task to carry out: what it is, why it runs, and where its result is noted.

    `forced`: it runs although its result may be there. `frozen`: it must not run, only be found somewhere.
    """

    task: Task
    miss: Miss
    kind: Kind
    scope: str
    forced: bool
    frozen: bool


class Facilities(NamedTuple):
    """What tasks are carried out with."""

    store: Store
    executor: Executor
    children: Children
    sharing: Sharing | None


class Listener(NamedTuple):
    """Whom a task tells how it goes."""

    started: Callable[[], None]
    progress: Progress
    waits: Callable[[Holder], None]


class Outcome(NamedTuple):
    """The record a task ended with, and whether it ran, came from a remote cache, or was another builder's."""

    record: Record
    state: State


def carry_out(assignment: Assignment, facilities: Facilities, listener: Listener) -> Outcome:
    """Carry out one task and return what it left.

    Raises LostInput, a MaxbuildError when the step or the disk fails, and Cancelled when told to stop.
    """
    miss, store = assignment.miss, facilities.store
    lock = store.lock(miss.key, facilities.children.stop, listener.waits)
    if lock is None:
        raise Cancelled
    with lock:
        done = None if assignment.forced else _find(assignment, store)
        if done is not None:
            return Outcome(done, State.CACHED)
        with store.workspace(miss.key) as folder:
            record = _fetch(assignment, facilities, folder)
            if record is not None:
                kept = store.record_result(record)
                store.set_last(assignment.scope, assignment.task.name, Last(record.text, ()))
                return Outcome(kept, State.FETCHED)
            if assignment.frozen:
                raise _work_found(assignment)
            record = _run(assignment, facilities, listener, folder)
        kept = store.record_result(record, replace=assignment.forced)
        store.set_last(assignment.scope, assignment.task.name, Last(record.text, record.explanations))
        if facilities.sharing is not None and facilities.sharing.covers(assignment.kind):
            offer_result(facilities.sharing, kept, store)
        return Outcome(kept, State.BUILT)


def _find(assignment: Assignment, store: Store) -> Record | None:
    with store.steady():
        done = store.find_result(assignment.miss.key)
        if done is not None:
            store.claim(done.key)
        return done


def _fetch(assignment: Assignment, facilities: Facilities, folder: Path) -> Record | None:
    sharing = facilities.sharing
    if sharing is None or assignment.forced or not sharing.covers(assignment.kind):
        return None
    return fetch_result(sharing, assignment.task, assignment.miss, facilities.store, folder)


def _work_found(assignment: Assignment) -> WorkFound:
    reasons = [
        f"{explanation.reason} `{explanation.what}`: {explanation.old or 'nothing'} → {explanation.new or 'nothing'}"
        if explanation.old or explanation.new
        else str(explanation.reason)
        for explanation in assignment.miss.explanations
    ]
    return WorkFound(
        f"task `{assignment.task.name}` would have to run", causes=[f"no result under {assignment.miss.key}", *reasons]
    )


def _run(assignment: Assignment, facilities: Facilities, listener: Listener, folder: Path) -> Record:
    """Run the step and publish what it left, unless its inputs have changed meanwhile."""
    store, miss = facilities.store, assignment.miss
    inputs = _verified_inputs(assignment, store)
    listener.started()
    begin = time.monotonic()
    job = _job(assignment, inputs, folder, listener.progress, facilities.children)
    order = Order(assignment.task.name, assignment.kind, miss.document, job, store.log_path(miss.key))
    outputs = facilities.executor.run(order, facilities.children)
    seconds = time.monotonic() - begin
    _confirm_inputs(assignment, store)
    return _publish(assignment, outputs, job.vouched, folder, seconds, store)


def _verified_inputs(assignment: Assignment, store: Store) -> dict[str, Path]:
    """Return the path of every input, once its bytes are known to be those of the document; LostInput otherwise."""
    paths = {}
    for role, source in assignment.task.inputs.items():
        digest = assignment.miss.document.inputs[role]
        if isinstance(source, SourceFile):
            if not _is_source(source.path, digest, store):
                raise LostInput(role)
            paths[role] = source.path.absolute()
        else:
            path = store.blob_path(digest)
            if path is None:
                raise LostInput(role)
            paths[role] = path
    return paths


def _is_source(path: Path, digest: Digest, store: Store) -> bool:
    try:
        return store.digest_of_source(path) == digest
    except OSError:
        return False


def _confirm_inputs(assignment: Assignment, store: Store) -> None:
    """Raise unless the inputs still hold what they held before the run."""
    for role, source in assignment.task.inputs.items():
        digest = assignment.miss.document.inputs[role]
        if isinstance(source, SourceFile):
            if not _is_source(source.path, digest, store):
                raise TaskFailed(
                    f"input `{role}` of task `{assignment.task.name}` changed while the task ran",
                    causes=[f"`{source.path}` is not the file it was"],
                    hint="run again when nothing else writes to it",
                )
        elif store.blob_path(digest) is None:
            raise LostInput(role)


def _job(
    assignment: Assignment, inputs: Mapping[str, Path], folder: Path, progress: Progress, children: Children
) -> Job:
    def report(done: int, total: int | None) -> None:
        if children.stop.is_set():
            raise Cancelled
        progress(done, total)

    scratch = folder / "work"
    disk.make_directory(scratch)
    task, digests = assignment.task, assignment.miss.document.inputs
    return Job(task.params, inputs, scratch, SteadyProgress(report), task.local, digests)


def _publish(
    assignment: Assignment,
    outputs: Mapping[str, Path],
    vouched: Mapping[Path, Vouched],
    folder: Path,
    seconds: float,
    store: Store,
) -> Record:
    """Bring every output into the store and return the record that names them."""
    task = assignment.task
    _check_outputs(task, outputs)
    size = sum(path.stat().st_size for path in outputs.values())
    scratch = folder.resolve()
    digests: dict[str, Digest] = {}
    moved: dict[Path, Digest] = {}
    for name in sorted(outputs):
        path = outputs[name].resolve()
        if path not in moved:
            inside = path.is_relative_to(scratch)
            moved[path] = store.publish(path) if inside else store.adopt(path, vouched.get(outputs[name]))
        digests[name] = moved[path]
    return Record.of(assignment.miss.document.text, Result(digests), seconds, size, assignment.miss.explanations)


def _check_outputs(task: Task, outputs: Mapping[str, Path]) -> None:
    """Raise TaskFailed unless a step returned what its task declares, as files."""
    problems = [f"it did not leave `{name}`" for name in task.single_outputs if name not in outputs]
    for name, path in outputs.items():
        try:
            check_output_name(name)
        except ValueError as error:
            problems.append(str(error))
        if not task.declares(name):
            problems.append(f"it left `{name}`, which it does not declare")
        elif not path.is_file():
            problems.append(f"its output `{name}` is no file")
    if problems:
        raise TaskFailed(f"task `{task.name}` did not do what it declares", causes=problems)
