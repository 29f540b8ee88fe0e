"""The execution of one task: lock, verify what it consumes, run, verify again, publish, put down the result.

What it consumes is proved before and after the run, so that no result lies under a key whose inputs it did not have.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from maxbuild.engine import disk
from maxbuild.engine.digest import Digest
from maxbuild.engine.isolation import Cancelled, Children, failure, run_isolated, with_log
from maxbuild.engine.lookup import Miss
from maxbuild.engine.records import Last, Record, Result
from maxbuild.engine.steps import SteadyProgress, call_step
from maxbuild.engine.store import Store
from maxbuild.engine.task import Job, Kind, Progress, SourceFile, Task, check_output_name
from maxbuild.errors import MaxbuildError, TaskFailed


class LostInput(Exception):
    """What a task consumes is missing, damaged or another than when the task was looked up."""

    def __init__(self, role: str) -> None:
        """Name the role of the input."""
        super().__init__(role)
        self.role = role


@dataclass(frozen=True, slots=True)
class Assignment:
    """One task to carry out: what it is, why it runs, and where its result is noted."""

    task: Task
    miss: Miss
    kind: Kind
    scope: str
    forced: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """The record a task ended with; `ran` is False when another builder had been faster."""

    record: Record
    ran: bool


def carry_out(
    assignment: Assignment,
    store: Store,
    children: Children,
    started: Callable[[], None],
    progress: Progress,
) -> Outcome:
    """Carry out one task and return what it left.

    Raises LostInput, a MaxbuildError when the step or the disk fails, and Cancelled when told to stop.
    """
    miss = assignment.miss
    lock = store.lock(miss.key, children.stop)
    if lock is None:
        raise Cancelled
    with lock:
        done = None if assignment.forced else store.find_result(miss.key)
        if done is not None:
            return Outcome(done, ran=False)
        inputs = _verified_inputs(assignment, store)
        started()
        with store.workspace(miss.key) as folder:
            begin = time.monotonic()
            job = _job(assignment, inputs, folder, progress, children)
            outputs = _run(assignment, job, store.log_path(miss.key), children)
            seconds = time.monotonic() - begin
            _confirm_inputs(assignment, store)
            record = _publish(assignment, outputs, folder, seconds, store)
        kept = store.record_result(record, replace=assignment.forced)
        store.set_last(assignment.scope, assignment.task.name, Last(miss.document, miss.explanations))
        return Outcome(kept, ran=True)


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
            if not store.source_holds(source.path, digest):
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


def _run(assignment: Assignment, job: Job, log: Path, children: Children) -> dict[str, Path]:
    kind = assignment.kind
    if kind.isolated:
        return run_isolated(assignment.task.name, kind.run, job, log, children)
    try:
        return call_step(kind.run, job)
    except MaxbuildError as error:
        _keep_traceback(log)
        raise with_log(error, log) from None
    except Exception as error:
        if isinstance(error, OSError) and disk.is_full(error):
            raise disk.storage_error(error, "write in", job.scratch) from error
        _keep_traceback(log)
        raise failure(assignment.task.name, traceback.format_exception_only(error)[-1].strip(), log) from error


def _keep_traceback(log: Path) -> None:
    disk.unlink(log)
    disk.write_file(log, traceback.format_exc().encode(errors="backslashreplace"))


def _publish(assignment: Assignment, outputs: Mapping[str, Path], folder: Path, seconds: float, store: Store) -> Record:
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
            moved[path] = store.publish(path) if path.is_relative_to(scratch) else store.adopt(path)
        digests[name] = moved[path]
    return Record(assignment.miss.document, Result(digests), seconds, size, assignment.miss.explanations)


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
