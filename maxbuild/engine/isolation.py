"""The parent's side of an isolated task: a fresh process in a process group of its own, its answer, or how it died."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from maxbuild.engine import disk
from maxbuild.engine.cancelled import Cancelled
from maxbuild.engine.children import Children
from maxbuild.engine.steps import failure
from maxbuild.engine.task import Job, Progress
from maxbuild.errors import from_json

_PATIENCE = 5.0


def python_command(module: str) -> list[str]:
    """Return the command that runs `module` with this interpreter; nothing is imported from where it works."""
    return [sys.executable, "-P", "-m", module]


def run_isolated(
    name: str, run: str, job: Job, log: Path, children: Children, command: Sequence[str] = ()
) -> dict[str, Path]:
    """Carry out `job` with the step `run` in a process of its own, and return its outputs.

    command: what to start in place of `maxbuild.engine.worker`; it must do as that does.
    Raises what the step raised, as far as it is a MaxbuildError; TaskFailed for any other end; Cancelled when killed.
    """
    answer = job.scratch.parent / "answer.json"
    receiver, sender = os.pipe()
    with os.fdopen(receiver, "rb") as lines, disk.open_output(log) as output:
        try:
            process = children.start(
                list(command) or python_command("maxbuild.engine.worker"),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                cwd=job.scratch,
                env=_environment(job.scratch.parent),
                pass_fds=[sender],
            )
        finally:
            os.close(sender)
        reader = threading.Thread(target=_read_progress, args=(lines, job.progress), daemon=True)
        reader.start()
        stdin = process.stdin
        if stdin is None:
            raise AssertionError("the child was started with a pipe")
        with suppress(BrokenPipeError):  # the child died at once; its status says how
            stdin.write(_request(run, job, answer, sender))
            stdin.flush()
        children.ended(process)
        with suppress(BrokenPipeError):
            stdin.close()
        reader.join(_PATIENCE)
    if children.stop.is_set():
        raise Cancelled
    return _read_answer(name, answer, process.returncode)


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


def _request(run: str, job: Job, answer: Path, sender: int) -> bytes:
    request = {
        "run": run,
        "params": job.params,
        "local": job.local,
        "inputs": {role: os.fspath(path) for role, path in job.inputs.items()},
        "digests": dict(job.digests),
        "scratch": os.fspath(job.scratch),
        "answer": os.fspath(answer),
        "progress": sender,
    }
    return json.dumps(request).encode() + b"\n"


def _read_progress(lines: IO[bytes], progress: Progress) -> None:
    with suppress(Cancelled, ValueError, TypeError, OSError):  # a torn line of a dying child is no news
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
