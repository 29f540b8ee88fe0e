"""The store: blobs and results of all work done so far, and the places where new work is done.

Blobs are written first and the result last, so a result implies its blobs; a result whose blob is gone is a miss.
Nothing here is trusted beyond what its name proves: a blob is its digest, a result answers the key it lies under.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from maxbuild.engine import disk
from maxbuild.engine.blobs import Blobs
from maxbuild.engine.canonical import JSON
from maxbuild.engine.digest import Digest, TaskKey
from maxbuild.engine.explain import Explanation, Reason
from maxbuild.engine.index import Index
from maxbuild.engine.locks import Lock, try_lock, wait_lock
from maxbuild.engine.memo import Memo
from maxbuild.engine.records import Last, Record

LAYOUT = "v1"
Row = TypeVar("Row", Record, Last)


def default_store_root(environ: Mapping[str, str]) -> Path:
    """Return the root of the store that `environ` asks for: $MAXBUILD_STORE, else the user's cache folder."""
    if chosen := environ.get("MAXBUILD_STORE"):
        return Path(chosen)
    cache = environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path("~/.cache").expanduser()) / "maxbuild"


@dataclass(frozen=True, slots=True)
class Statistics:
    """How much a store holds; sizes in bytes."""

    blobs: int
    blob_bytes: int
    references: int
    results: int
    index_bytes: int
    quarantined: int
    log_bytes: int


class Store:
    """One store, open. It may be shared by threads, and by any number of processes."""

    def __init__(self, root: Path) -> None:
        """Open the store at `root`, made where missing; StoreError when it cannot be read and written."""
        self.root = root.absolute()
        self._base = self.root / LAYOUT
        for name in ("cas/sha256", "locks", "scratch", "quarantine", "logs"):
            disk.make_directory(self._base / name)
        self._index = Index(self._base / "index")
        self._memo = Memo(self._index, self._base / "scratch" / ".clock")
        self._blobs = Blobs(self._base, self._index, self._memo)
        self._session: tuple[Path, Lock] | None = None
        self._session_mutex = threading.Lock()

    def __enter__(self) -> Self:
        """Return the store."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the store."""
        self.close()

    # Content

    def publish(self, path: Path) -> Digest:
        """Move the file `path` into the store and return its digest; StoreError when the disk refuses."""
        return self._blobs.publish(path, self._session_directory())

    def publish_bytes(self, content: bytes) -> Digest:
        """Put `content` into the store and return its digest; StoreError when the disk refuses."""
        path = self._session_directory() / f"bytes-{secrets.token_hex(8)}"
        disk.write_file(path, content)
        return self.publish(path)

    def adopt(self, path: Path) -> Digest:
        """Take the file `path` as content where it lies and return its digest; OSError when it cannot be read."""
        return self._blobs.adopt(path)

    def blob_path(self, digest: Digest) -> Path | None:
        """Return where the content `digest` lies, or None where it is missing; damaged content is quarantined."""
        return self._blobs.path(digest)

    def known_source(self, path: Path) -> Digest | None:
        """Return the digest of the file `path` outside the store if it can be told without reading it."""
        return self._memo.known(path.absolute())

    def digest_of_source(self, path: Path) -> Digest:
        """Return the digest of the file `path` outside the store; OSError when it cannot be read."""
        return self._memo.digest(path.absolute())

    def source_holds(self, path: Path, digest: Digest) -> bool:
        """Return whether the file `path` outside the store holds `digest`, also after links to it were made."""
        try:
            return self._memo.renew(path.absolute(), digest)
        except OSError:
            return False

    # Results

    def read_record(self, key: TaskKey) -> Record | None:
        """Return the record of the result under `key`, whether or not its blobs are all there."""
        record = _parse(Record, self._index.get_json(f"result:{key}"))
        return record if record is not None and record.key == key else None

    def gaps(self, record: Record) -> tuple[Explanation, ...]:
        """Return what of a result is missing or damaged, as reasons to do the work again."""
        return tuple(
            Explanation(Reason.CORRUPT if self._blobs.is_quarantined(digest) else Reason.EVICTED, output, digest)
            for output, digest in record.result.outputs.items()
            if self._blobs.path(digest) is None
        )

    def find_result(self, key: TaskKey) -> Record | None:
        """Return the record of the result under `key` if all its blobs are there."""
        record = self.read_record(key)
        return record if record is not None and not self.gaps(record) else None

    def record_result(self, record: Record, *, replace: bool = False) -> Record:
        """Put down a result whose blobs are in the store, and return the one that holds from now on.

        That is the first writer's, when another builder was faster and its blobs are there, unless `replace` is set.
        """
        if not replace and (first := self.find_result(record.key)) is not None:
            return first
        self._index.set_json(f"result:{record.key}", record.to_json())
        return record

    def last(self, scope: str, name: str) -> Last | None:
        """Return the newest document under the task name `name` in `scope`."""
        return _parse(Last, self._index.get_json(_last_row(scope, name)))

    def set_last(self, scope: str, name: str, last: Last) -> None:
        """Put down the newest document under the task name `name` in `scope`."""
        self._index.set_json(_last_row(scope, name), last.to_json())

    # Places of work

    def log_path(self, key: TaskKey) -> Path:
        """Return the file that keeps what the newest run under `key` wrote."""
        return self._base / "logs" / f"{key}.log"

    def lock(self, key: TaskKey, stop: threading.Event) -> Lock | None:
        """Wait for the right to do the work under `key`; None when `stop` is set first."""
        return wait_lock(self._base / "locks" / key, stop)

    @contextmanager
    def workspace(self, key: TaskKey) -> Iterator[Path]:
        """Lend an empty folder on the store's file system; it is removed at the end."""
        path = self._session_directory() / f"{key[:16]}-{secrets.token_hex(4)}"
        disk.make_directory(path)
        try:
            yield path
        finally:
            disk.remove_tree(path)

    def leave_scratch(self) -> None:
        """Remove this process's scratch folder; the next need makes another."""
        with self._session_mutex:
            if self._session is not None:
                directory, lock = self._session
                disk.remove_tree(directory)
                lock.release()
                self._session = None

    def close(self) -> None:
        """Remove this process's scratch folder and close this thread's connection."""
        self.leave_scratch()
        self.close_thread()

    def close_thread(self) -> None:
        """Close this thread's connection to the index; the next use opens another."""
        self._index.close()

    def statistics(self) -> Statistics:
        """Count what the store holds."""
        blobs = [path.stat().st_size for path in self._blobs.files()]
        return Statistics(
            blobs=len(blobs),
            blob_bytes=sum(blobs),
            references=len(self._index.keys("reference:")),
            results=len(self._index.keys("result:")),
            index_bytes=self._index.size(),
            quarantined=len(list(self._blobs.quarantined())),
            log_bytes=sum(path.stat().st_size for path in (self._base / "logs").glob("*.log")),
        )

    def _session_directory(self) -> Path:
        """Return this process's scratch folder, made on first need, after sweeping those of the dead."""
        with self._session_mutex:
            if self._session is None:
                self._sweep()
                name = secrets.token_hex(8)
                lock = wait_lock(self._lock_of_session(name), threading.Event())  # another's sweep may hold it
                if lock is None:
                    raise AssertionError("nobody stops this wait")
                directory = self._base / "scratch" / name
                disk.make_directory(directory)
                self._session = (directory, lock)
            return self._session[0]

    def _sweep(self) -> None:
        """Remove what processes left that died: nobody holds their locks any more."""
        scratch, locks = self._base / "scratch", self._base / "locks"
        sessions = {self._lock_of_session(path.name): path for path in scratch.iterdir() if path.is_dir()}
        for path in {*sessions, *locks.iterdir()}:
            lock = try_lock(path)
            if lock is not None:
                with lock:
                    if path in sessions:
                        disk.remove_tree(sessions[path])

    def _lock_of_session(self, name: str) -> Path:
        return self._base / "locks" / f"{name}.scratch"


def _last_row(scope: str, name: str) -> str:
    return f"last:{json.dumps([scope, name])}"


def _parse(row: type[Row], value: JSON) -> Row | None:
    """Read a row of the index; one that is no such record counts as absent."""
    try:
        return None if value is None else row.from_json(value)
    except (ValueError, TypeError, AttributeError):
        return None
