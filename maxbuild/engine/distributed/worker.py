"""The worker's side: carries out one errand in a process of its own, and gives back where the outputs lie.

It trusts the build that sends errands, as every dask worker trusts its clients, and believes no bytes: inputs are
compared with the digests of the document. An errand that nobody waits for any more is ended, with all it started.
"""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from maxbuild.engine import disk
from maxbuild.engine.cancelled import Cancelled
from maxbuild.engine.children import Children
from maxbuild.engine.digest import Digest, hash_file
from maxbuild.engine.distributed.wire import Answer, Errand
from maxbuild.engine.isolation import run_isolated
from maxbuild.engine.remote import RemoteCache, RemoteOutput, open_remote
from maxbuild.engine.steps import call_step, find_step
from maxbuild.engine.task import Job
from maxbuild.errors import MaxbuildError, TaskFailed, UsageError

if TYPE_CHECKING:
    from distributed import Worker

    from maxbuild.engine.canonical import JSON

LONGEST_LOG = 1024 * 1024
"""How many bytes of what a step printed go back: the last ones."""

_GLANCE = 0.2
_WANTED = frozenset({"executing", "long-running"})
_LEAVING = frozenset({"closing", "closed", "failed"})


def carry_out_order(text: str) -> str:
    """Carry out the errand `text` and return the answer, both JSON. This function is all that a build submits."""
    from distributed import Reschedule, get_worker  # noqa: PLC0415 - a worker has it imported

    worker = get_worker()
    folder = Path(tempfile.mkdtemp(prefix="maxbuild-", dir=worker.local_directory))
    log = folder / "log"
    try:
        with _watched(worker) as children:
            outputs, error = _carry_out(text, folder, log, children), None
    except Cancelled:
        raise Reschedule from None  # nobody waits for it; or this worker leaves, and another may do it
    except MaxbuildError as failure:
        outputs, error = None, failure
    finally:
        said = _read_end(log)
        disk.remove_tree(folder)
    name = f"{worker.address} on {socket.gethostname()}"
    return Answer(name, said, outputs, error).to_text()


def run_checked(job: Job) -> Mapping[str, Path]:
    """Carry out the step of an errand, the text in `job.local`, once the toolchain here proves to be the task's.

    It is asked in the fresh process that runs the step: a worker lives long, and may have been upgraded under its feet.
    """
    errand = Errand.from_text(str(job.local["errand"]))
    toolchain_of = cast("Callable[[str, Mapping[str, JSON]], Mapping[str, str]]", find_step(errand.toolchain))
    wanted, here = errand.document.toolchain, toolchain_of(errand.document.kind, errand.document.params)
    differences = [
        f"`{name}` is {here.get(name, 'missing')} there, and the task says {wanted.get(name, 'nothing of it')}"
        for name in sorted(wanted.keys() | here.keys())
        if wanted.get(name) != here.get(name)
    ]
    if differences:
        raise TaskFailed(
            f"worker `{job.local['worker']}` has another toolchain than task `{errand.name}`",
            causes=differences,
            hint="install on all workers what is installed where the build runs",
        )
    return call_step(errand.run, replace(job, local={}))


@contextmanager
def _watched(worker: Worker) -> Iterator[Children]:
    """Give what holds the processes of the task that this thread carries out; all are killed when it is unwanted.

    dask cannot interrupt a thread. A task whose future was cancelled, or whose client is gone, is in another state.
    """
    children, done, key = Children(), threading.Event(), worker.get_current_task()

    def watch() -> None:
        while not done.wait(_GLANCE):
            task = worker.state.tasks.get(key)
            if task is None or task.state not in _WANTED or worker.status.name in _LEAVING:
                children.kill_all()
                return

    thread = threading.Thread(target=watch, daemon=True, name="maxbuild-watch")
    thread.start()
    try:
        yield children
    finally:
        done.set()
        thread.join()


def _carry_out(text: str, folder: Path, log: Path, children: Children) -> Mapping[str, RemoteOutput]:
    errand = Errand.from_text(text)
    with closing(_open_remote(errand)) as cache:
        inputs = _fetch_inputs(errand, cache, folder / "inputs", children)
        scratch = folder / "run" / "work"
        disk.make_directory(scratch)
        local = {"errand": text, "worker": socket.gethostname()}
        job = Job(errand.document.params, inputs, scratch, _ignore, local, errand.document.inputs)
        outputs = run_isolated(errand.name, f"{__name__}:{run_checked.__name__}", job, log, children)
        return _store_outputs(errand, outputs, cache, children)


def _open_remote(errand: Errand) -> RemoteCache:
    try:
        return open_remote(errand.url, instance=errand.instance, write=True, environ=os.environ)
    except UsageError as error:
        raise TaskFailed(
            f"worker `{socket.gethostname()}` cannot use the remote cache of the build",
            causes=[error.message, *error.causes],
            hint=f"in the environment of the workers: {error.hint}" if error.hint else None,
        ) from error


def _fetch_inputs(errand: Errand, cache: RemoteCache, folder: Path, children: Children) -> Mapping[str, Path]:
    """Return where each input lies now, by role, its bytes those of the document."""
    disk.make_directory(folder)
    paths: dict[Digest, Path] = {}
    for role, digest in errand.document.inputs.items():
        _stop_if_told(children)
        if digest in paths:
            continue
        paths[digest] = folder / digest
        if not cache.fetch(digest, errand.sizes[role], paths[digest]):
            raise _trouble(f"worker `{socket.gethostname()}` could not fetch input `{role}` of", errand, cache)
        disk.seal_file(paths[digest])
    return {role: paths[digest] for role, digest in errand.document.inputs.items()}


def _store_outputs(
    errand: Errand, outputs: Mapping[str, Path], cache: RemoteCache, children: Children
) -> Mapping[str, RemoteOutput]:
    """Return what each output holds, now that the remote cache has it."""
    stored = {}
    for name, path in outputs.items():
        _stop_if_told(children)
        if not path.is_file():
            raise TaskFailed(
                f"task `{errand.name}` did not do what it declares", causes=[f"its output `{name}` is no file"]
            )
        digest = hash_file(path)
        if not cache.store_blob(digest, path):
            raise _trouble(f"worker `{socket.gethostname()}` could not hand over output `{name}` of", errand, cache)
        stored[name] = RemoteOutput(digest, path.stat().st_size)
    return stored


def _trouble(what: str, errand: Errand, cache: RemoteCache) -> TaskFailed:
    why = cache.statistics().trouble or f"the remote cache at {cache.address} does not have it"
    return TaskFailed(f"{what} task `{errand.name}`", causes=[why])


def _stop_if_told(children: Children) -> None:
    if children.stop.is_set():
        raise Cancelled


def _ignore(_done: int, _total: int | None) -> None:
    """Take no notice of progress: the steps that may travel report none."""


def _read_end(log: Path) -> str:
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            cut = max(0, size - LONGEST_LOG)
            file.seek(cut)
            said = file.read(LONGEST_LOG).decode(errors="backslashreplace")
    except OSError:
        return ""
    return f"[{cut} bytes cut here]\n{said}" if cut else said
