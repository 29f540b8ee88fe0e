"""The parent's side of an isolated task: a process in a process group of its own, its answer, or how it died."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeAlias

from maxbuild.engine import disk
from maxbuild.engine.cancelled import Cancelled
from maxbuild.engine.children import Children
from maxbuild.engine.steps import failure
from maxbuild.engine.task import Job, Progress
from maxbuild.errors import from_json

if TYPE_CHECKING:
    from maxbuild.engine.nursery import Nursery

_PATIENCE = 5.0


def python_command(module: str) -> list[str]:
    """Return the command that runs `module` with this interpreter; nothing is imported from where it works."""
    return [sys.executable, "-P", "-m", module]


class Ends(NamedTuple):
    """The descriptors that a child works with: its request comes by one, its log and its progress go to the others."""

    stdin: int
    output: int
    progress: int


Wait: TypeAlias = Callable[[], int | None]
"""Waits for a child's end and returns its exit status, minus the signal that killed it; None where nobody can tell."""

Start: TypeAlias = Callable[[Ends], Wait | None]
"""Starts a child; None where it cannot be started so."""


def run_isolated(
    name: str,
    run: str,
    job: Job,
    log: Path,
    children: Children,
    command: Sequence[str] = (),
    *,
    nursery: Nursery | None = None,
) -> dict[str, Path]:
    """Carry out `job` with the step `run` in a process of its own, and return its outputs.

    command: what to start in place of `maxbuild.engine.worker`; it must do as that does.
    nursery: what forks the process; where it cannot, or ends before its child, a fresh one is started.
    Raises what the step raised, as far as it is a MaxbuildError; TaskFailed for any other end; Cancelled when killed.
    """
    answer = job.scratch.parent / "answer.json"
    environment = _environment(job.scratch.parent)
    request = _request(run, job, answer, environment)

    def start_fresh(ends: Ends) -> Wait:
        process = children.start(
            list(command) or python_command("maxbuild.engine.worker"),
            stdin=ends.stdin,
            stdout=ends.output,
            stderr=ends.output,
            cwd=job.scratch,
            env=environment,
            pass_fds=[ends.progress],
        )
        return partial(children.ended, process)

    if nursery is not None:
        start = partial(nursery.start, environment, children)
        status = _carry_out(name, start, request, log, job.progress, children)
        if status is not None:
            return _read_answer(name, answer, status)
        _clear_away(job, answer)
    status = _carry_out(name, start_fresh, request, log, job.progress, children)
    assert status is not None  # of its own child everybody can tell
    return _read_answer(name, answer, status)


def _carry_out(
    name: str, start: Start, request: Mapping[str, Any], log: Path, progress: Progress, children: Children
) -> int | None:
    """Have a child that `start` starts carry out `request`; return its exit status, None where nobody can tell it.

    In that case nothing of it runs any more: raise TaskFailed where that is not sure. Raise Cancelled when killed.
    """
    with disk.open_output(log) as output:
        (receiver, sender), (stdin, held) = os.pipe(), os.pipe()
        reader = threading.Thread(target=_read_progress, args=(os.fdopen(receiver, "rb"), progress), daemon=True)
        reader.start()
        try:
            status = _accompany(start, Ends(stdin, output.fileno(), sender), held, request)
        finally:
            reader.join(_PATIENCE)
    if children.stop.is_set():
        raise Cancelled
    if status is None and reader.is_alive():
        raise failure(name, "its process was left alone by the one that had forked it, and does not end")
    return status


def _accompany(start: Start, ends: Ends, held: int, request: Mapping[str, Any]) -> int | None:
    """Start a child, hand it `request` through `held`, and wait for its end: when `held` is closed, it dies."""
    with os.fdopen(held, "wb") as stdin:
        try:
            wait = start(ends)
        finally:
            os.close(ends.stdin)
            os.close(ends.progress)
        with suppress(BrokenPipeError):  # the child died at once; its status says how
            stdin.write(json.dumps({**request, "progress": ends.progress}).encode() + b"\n")
            stdin.flush()
        status = None if wait is None else wait()
        with suppress(BrokenPipeError):
            stdin.close()
    return status


def _clear_away(job: Job, answer: Path) -> None:
    """Let a job begin anew: what was there may be the half of something."""
    disk.remove_tree(job.scratch)
    disk.make_directory(job.scratch)
    disk.unlink(answer)


def _environment(folder: Path) -> Mapping[str, str]:
    """Return the child's environment: modules are found where this process finds them, temporary files in `folder`."""
    temporary = folder / "tmp"
    disk.make_directory(temporary)
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(os.path.abspath(entry) for entry in sys.path),  # noqa: PTH100
        "PYTHONHASHSEED": "0",  # the order of a set must not reach an artifact
        "TMPDIR": os.fspath(temporary),
    }


def _request(run: str, job: Job, answer: Path, environment: Mapping[str, str]) -> Mapping[str, Any]:
    return {
        "run": run,
        "params": job.params,
        "local": job.local,
        "inputs": {role: os.fspath(path) for role, path in job.inputs.items()},
        "digests": dict(job.digests),
        "scratch": os.fspath(job.scratch),
        "answer": os.fspath(answer),
        "environment": environment,
    }


def _read_progress(lines: IO[bytes], progress: Progress) -> None:
    # Closed here alone: what a step leaves running may hold the other end, and who closes waits for who reads.
    with lines, suppress(Cancelled, ValueError, TypeError, OSError):  # a torn line of a dying child is no news
        for line in lines:
            done, total = json.loads(line)
            progress(done, total)


def _read_answer(name: str, answer: Path, status: int) -> dict[str, Path]:
    try:
        reply = json.loads(answer.read_bytes())
    except (OSError, ValueError):
        raise failure(name, _how_it_died(status)) from None
    match reply:
        case {"outputs": dict() as outputs}:
            return {output: Path(path) for output, path in outputs.items()}
        case {"error": error}:
            raise from_json(error)
        case {"crash": str(cause)}:
            raise failure(name, cause)
    raise failure(name, "its answer was no answer")


def _how_it_died(status: int) -> str:
    if status >= 0:
        return f"its process ended with status {status} and left no answer"
    name = signal.Signals(-status).name
    likely = ", most likely for want of memory" if -status == signal.SIGKILL else ""
    return f"its process was killed by {name}{likely}"
