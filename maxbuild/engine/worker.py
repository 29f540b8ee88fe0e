"""The child's side of an isolated task: one job from stdin, its answer in a file, everything it prints in its log.

The protocol is JSON both ways: one request line on stdin; progress as lines `[done, total]` on a pipe; the answer
`{"outputs": {name: path}}`, `{"error": ...}` or `{"crash": "what"}`. When the parent dies, stdin ends, and this
process kills itself and all it started.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, NoReturn

from maxbuild.engine import disk
from maxbuild.engine.digest import Digest
from maxbuild.engine.steps import SteadyProgress, call_step
from maxbuild.engine.task import Job
from maxbuild.errors import MaxbuildError


def main() -> NoReturn:
    """Carry out the request on stdin and leave, without waiting for what a library may have left running."""
    parent = os.fdopen(take_stdin(), "rb")
    request: dict[str, Any] = json.loads(parent.readline())
    _carry_out(request, request["progress"], parent)


def main_of_fork(settle: Callable[[], object], progress: int) -> NoReturn:
    """Do as `main` does, in a process that is no fresh one but shall be like one.

    settle: called once environment, working folder and temporary folder are those of the request.
    progress: where the descriptor is that a fresh process has under the number in the request.
    """
    parent = os.fdopen(take_stdin(), "rb")
    request: dict[str, Any] = json.loads(parent.readline())
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["scratch"])
    tempfile.tempdir = None  # it is found again, by the environment
    settle()
    _carry_out(request, progress, parent)


def _carry_out(request: Mapping[str, Any], progress: int, parent: IO[bytes]) -> NoReturn:
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    os.set_inheritable(progress, False)
    answer = json.dumps(_answer(request, progress)).encode()
    disk.write_file(Path(request["answer"]), answer)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def take_stdin() -> int:
    """Keep stdin for ourselves, so that nothing a step starts can read from it."""
    kept = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return kept


def _die_with(parent: IO[bytes]) -> None:
    parent.read()
    os.killpg(0, signal.SIGKILL)


def _answer(request: Mapping[str, Any], pipe: int) -> dict[str, object]:
    scratch = Path(request["scratch"])
    job = Job(
        params=request["params"],
        inputs={role: Path(path) for role, path in request["inputs"].items()},
        scratch=scratch,
        progress=SteadyProgress(lambda done, total: _send(pipe, done, total)),
        local=request["local"],
        digests={role: Digest(digest) for role, digest in request["digests"].items()},
    )
    try:
        outputs = call_step(request["run"], job)
    except MaxbuildError as error:
        traceback.print_exc()
        return {"error": error.to_json()}
    except BaseException as error:  # noqa: BLE001 - whatever a step raises is its failure, never the engine's
        traceback.print_exc()
        if isinstance(error, OSError) and disk.is_full(error):
            return {"error": disk.storage_error(error, "write in", scratch).to_json()}
        return {"crash": traceback.format_exception_only(error)[-1].strip()}
    return {"outputs": {name: os.fspath(path.absolute()) for name, path in outputs.items()}}


def _send(pipe: int, done: int, total: int | None) -> None:
    os.write(pipe, json.dumps([done, total]).encode() + b"\n")


if __name__ == "__main__":
    main()
