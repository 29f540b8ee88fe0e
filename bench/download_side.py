"""One side of `bench.download`, in a process of its own: it prints the seconds from its first request to its last byte.

`python -m bench.download_side maxbuild STORE`, `snapshot`, `client NAME...`; `nothing STORE` once the first has left
all that it leaves. The hub and its cache are those of the environment.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.hub_server import COMMIT, REPOSITORY
from maxbuild.engine import Kind, State, Store, execute
from maxbuild.lock import Lock, LockedRepository, read_lock, write_lock
from maxbuild.steps.download import KIND, download_task


def _maxbuild(root: Path) -> float:
    """Download as `warm` does: list, then a task for each file, its bytes hashed, on the disk, and in the store."""
    from maxbuild.hub import list_repository  # noqa: PLC0415 - where there is nothing to do, nobody imports it

    begin = time.perf_counter()
    repository = list_repository(REPOSITORY, COMMIT)
    _execute(repository, root)
    seconds = time.perf_counter() - begin
    write_lock(_lock(root), Lock.of([repository]))
    return seconds


def _nothing(root: Path) -> float:
    """Find out from the lock and the store that there is nothing to do."""
    begin = time.perf_counter()
    lock = read_lock(_lock(root))
    assert lock is not None
    (repository,) = lock.repositories.values()
    _execute(repository, root)
    assert "huggingface_hub" not in sys.modules
    return time.perf_counter() - begin


class _Downloads:
    """A plan of downloads and nothing else."""

    def __init__(self, repository: LockedRepository) -> None:
        self.tasks = [download_task(repository, file, "main") for file in repository.files]

    def grow(self, _: object) -> tuple[()]:
        return ()

    def deferred(self, _: object) -> tuple[()]:
        return ()


def _execute(repository: LockedRepository, root: Path) -> None:
    kinds = {KIND: Kind(KIND, "maxbuild.steps.download:run", isolated=False, transfers=True)}
    with Store(root) as store:
        report = execute(_Downloads(repository), store, kinds, scope="bench", jobs=1)
    if failed := report.in_state(State.FAILED):
        raise SystemExit(str(failed[0].error))


def _snapshot() -> float:
    from huggingface_hub import snapshot_download  # noqa: PLC0415

    begin = time.perf_counter()
    snapshot_download(REPOSITORY, revision=COMMIT)
    return time.perf_counter() - begin


def _client(names: Sequence[str]) -> float:
    """Fetch as many files at once as the others do, and keep nothing."""
    from huggingface_hub import constants, get_session  # noqa: PLC0415

    def fetch(name: str) -> None:
        with client.stream("GET", f"{constants.ENDPOINT}/{REPOSITORY}/resolve/{COMMIT}/{name}") as response:
            for _ in response.iter_raw():
                pass

    client = get_session()
    begin = time.perf_counter()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(fetch, names))
    return time.perf_counter() - begin


def _lock(root: Path) -> Path:
    return root.with_suffix(".lock")


def main() -> int:
    """Do one side of the bench."""
    match sys.argv[1:]:
        case ["maxbuild", root]:
            seconds = _maxbuild(Path(root))
        case ["nothing", root]:
            seconds = _nothing(Path(root))
        case ["snapshot"]:
            seconds = _snapshot()
        case ["client", *names]:
            seconds = _client(names)
        case _:
            return 2
    print(seconds)
    sys.stdout.flush()
    os._exit(0)  # what is taken down at the end is no part of a download


if __name__ == "__main__":
    sys.exit(main())
