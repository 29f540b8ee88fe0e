"""The store: blobs and results of all work done so far, and the places where new work is done.

Blobs are written first and the result last, so a result implies its blobs; a result whose blob is gone is a miss.
Nothing here is trusted beyond what its name proves: a blob is its digest, a result answers the key it lies under.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from pathlib import Path
from typing import NamedTuple, Self, TypeVar, cast

from maxbuild.engine import disk
from maxbuild.engine.blobs import Blobs
from maxbuild.engine.canonical import JSON
from maxbuild.engine.digest import Digest, TaskKey, hash_file
from maxbuild.engine.explain import Explanation, Reason
from maxbuild.engine.holder import Holder
from maxbuild.engine.index import DATABASE, Index
from maxbuild.engine.locks import Gate, Lock, wait_lock
from maxbuild.engine.memo import Memo, stamp_row
from maxbuild.engine.records import Last, Record
from maxbuild.engine.session import Session
from maxbuild.engine.task import Vouched
from maxbuild.errors import StoreError

LAYOUT = "v1"
Row = TypeVar("Row", Record, Last)


def default_store_root(environ: Mapping[str, str]) -> Path:
    """Return the root of the store that `environ` asks for: $MAXBUILD_STORE, else the user's cache folder."""
    if chosen := environ.get("MAXBUILD_STORE"):
        return Path(chosen)
    cache = environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path("~/.cache").expanduser()) / "maxbuild"


class Statistics(NamedTuple):
    """How much a store holds; sizes in bytes."""

    blobs: int
    blob_bytes: int
    references: int
    results: int
    index_bytes: int
    quarantined: int
    log_bytes: int


class Store:
    """One store, open. It may be shared by threads, and by any number of processes.

    A store that may not be written is opened all the same, for reading: `read_only` says so.
    """

    def __init__(self, root: Path) -> None:
        """Open the store at `root`, made where missing; StoreError when it cannot be read."""
        self.root = root.absolute()
        self._base = self.root / LAYOUT
        self.read_only = _is_read_only(self._base)
        if not self.read_only:
            disk.make_lasting_directory(self._base / "cas" / "sha256")
            for name in ("locks", "scratch", "quarantine", "logs", "runs"):
                disk.make_directory(self._base / name)
        self._index = Index(self._base / "index", read_only=self.read_only)
        self._memo = Memo(self._index, None if self.read_only else self._base / "scratch" / ".clock")
        self._blobs = Blobs(self._base, self._index, self._memo, read_only=self.read_only)
        self._gate = Gate(self._base / "gate")
        self._session: Session | None = None
        self._session_mutex = threading.Lock()
        self._claims = threading.local()
        self._newest: dict[str, dict[str, TaskKey]] = {}
        """By scope and task name, the keys of the newest documents, as far as they were read ahead or put down."""

    def __enter__(self) -> Self:
        """Return the store."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the store."""
        self.close()

    # Content

    def publish(self, path: Path, *, digest: Digest | None = None) -> Digest:
        """Move the file `path` into the store and return its digest; StoreError when the disk refuses.

        digest: that of the content, where this process has just made sure of it.
        """
        self.check_writable()
        with disk.on_its_way(path):  # the disk writes while the processor hashes
            digest = digest or _hash(path)
        self._claim_content(digest)
        self._blobs.publish(path, self._present().folder, digest)
        return digest

    def publish_bytes(self, content: bytes) -> Digest:
        """Put `content` into the store and return its digest; StoreError when the disk refuses."""
        self.check_writable()
        path = self._present().folder / f"bytes-{os.urandom(8).hex()}"
        disk.write_file(path, content)
        return self.publish(path)

    def adopt(self, path: Path, vouched: Vouched | None = None) -> Digest:
        """Take the file `path` as content where it lies and return its digest; OSError when it cannot be read.

        vouched: what it holds, where somebody has just found out. A file that has changed since is read all the same.
        """
        real = Path(os.path.realpath(path))
        if vouched is not None:
            self._memo.vouch(real, vouched.digest, vouched.status)
        digest = self._memo.digest(real, sealed=True)
        self._claim_content(digest)
        self._blobs.adopt(real, digest)
        return digest

    def hold(self, digest: Digest) -> Path | None:
        """Return where the content `digest` lies, as `blob_path` does, and keep collectors from taking it."""
        with self.steady():
            path = self._blobs.path(digest)
            if path is not None:
                self._claim_content(digest)
            return path

    def blob_path(self, digest: Digest) -> Path | None:
        """Return where the content `digest` lies, or None where it is missing; damaged content is quarantined."""
        return self._blobs.path(digest)

    def known_source(self, path: Path) -> Digest | None:
        """Return the digest of the file `path` outside the store if it can be told without reading it."""
        return self._memo.known(_absolute(path))

    def digest_of_source(self, path: Path) -> Digest:
        """Return the digest of the file `path` outside the store; OSError when it cannot be read."""
        return self._memo.digest(_absolute(path))

    def source_holds(self, path: Path, digest: Digest) -> bool:
        """Return whether the file `path` outside the store holds `digest`, also after links to it were made."""
        try:
            return self._memo.renew(_absolute(path), digest)
        except OSError:
            return False

    # Results

    @contextmanager
    def steady(self) -> Iterator[None]:
        """Keep collectors from taking anything while the context lasts, which should not be long.

        What is claimed in it stays afterwards, until this store is closed.
        """
        if self.read_only or hasattr(self._claims, "names"):
            yield
            return
        with self._gate.shared():
            self._claims.names = []
            try:
                yield
            finally:
                claimed = self._claims.names
                del self._claims.names
                if claimed:
                    self._present().claim(claimed)

    def claim(self, key: TaskKey) -> None:
        """Rely on the result under `key`: no collector takes it as long as this store is open. Only within `steady`."""
        if not self.read_only:
            self._claims.names.append(key)

    def _claim_content(self, digest: Digest) -> None:
        """Rely on content before a result names it: whether it is there is seen after collectors are kept from it."""
        if not self.read_only:
            with self.steady():
                self._claims.names.append(digest)

    def collecting(self) -> AbstractContextManager[None]:
        """Keep everybody from relying on anything new while the context lasts, which must not be long."""
        self.check_writable()
        return self._gate.exclusive()

    def read_ahead(self, scope: str, sources: Iterable[Path]) -> None:
        """Read in a few queries what a build in `scope` over `sources` asks for if nothing has changed."""
        row = self._index.get_json(_scope_row(scope))
        self._newest[scope] = cast("dict[str, TaskKey]", row) if isinstance(row, dict) else {}
        results = self._index.read_ahead(f"result:{key}" for key in self._newest[scope].values())
        stamps = chain.from_iterable(self._blobs.rows(digest) for digest in _outputs(results.values()))
        self._index.read_ahead([*stamps, *(stamp_row(_absolute(path)) for path in sources)])

    def read_record(self, key: TaskKey) -> Record | None:
        """Return the record of the result under `key`, whether or not its blobs are all there."""
        record = _parse(Record, self._index.get_json(f"result:{key}"))
        return record if record is not None and record.key == key else None

    def gaps(self, record: Record) -> tuple[Explanation, ...]:
        """Return what of a result is missing or damaged, as reasons to do the work again."""
        outputs = record.result.outputs
        if all(self._blobs.holds(digest, record.stamps.get(name)) for name, digest in outputs.items()):
            return ()
        return tuple(
            Explanation(Reason.CORRUPT if self._blobs.is_quarantined(digest) else Reason.EVICTED, output, digest)
            for output, digest in outputs.items()
            if not self._blobs.holds(digest)
        )

    def find_result(self, key: TaskKey) -> Record | None:
        """Return the record of the result under `key` if all its blobs are there."""
        record = self.read_record(key)
        return record if record is not None and not self.gaps(record) else None

    def record_result(self, record: Record, *, replace: bool = False) -> Record:
        """Put down a result whose blobs are in the store, and return the one that holds from now on.

        That is the first writer's, when another builder was faster and its blobs are there, unless `replace` is set.
        """
        self.check_writable()
        with self.steady():
            self.claim(record.key)
            if not replace and (first := self.find_result(record.key)) is not None:
                return first
            stamps = {name: self._blobs.stamp(digest) for name, digest in record.result.outputs.items()}
            self._index.set_json(f"result:{record.key}", {**record.to_json(), "stamps": stamps})
            return record

    def last(self, scope: str, name: str) -> Last | None:
        """Return the newest document under the task name `name` in `scope`."""
        return _parse(Last, self._index.get_json(_last_row(scope, name)))

    def is_newest(self, scope: str, name: str, record: Record) -> bool:
        """Return whether the document of `record` is the newest under the task name `name` in `scope`."""
        if self._newest.get(scope, {}).get(name) == record.key:
            return True
        last = self.last(scope, name)
        return last is not None and last.text == record.text

    def set_last(self, scope: str, name: str, last: Last) -> None:
        """Put down the newest document under the task name `name` in `scope`."""
        if self._newest.pop(scope, None):  # what is read ahead must be true, also when this process dies
            self._index.delete(_scope_row(scope))
        self._index.set_json(_last_row(scope, name), last.to_json())

    def newest(self, scope: str) -> Mapping[str, TaskKey]:
        """Return the keys of the newest documents in `scope`, by task name, as far as they were read ahead."""
        return self._newest.get(scope, {})

    def set_newest(self, scope: str, keys: Mapping[str, TaskKey]) -> None:
        """Put down the keys of the newest documents in `scope`, by task name, for the next build to read ahead."""
        if self._newest.get(scope) != keys:
            self._newest[scope] = dict(keys)
            self._index.set_json(_scope_row(scope), keys)

    # Places of work

    def log_path(self, key: TaskKey) -> Path:
        """Return the file that keeps what the newest run under `key` wrote."""
        return Path(f"{self._base}/logs/{key}.log")

    def lock(self, key: TaskKey, stop: threading.Event, on_wait: Callable[[Holder], None] | None = None) -> Lock | None:
        """Wait for the right to do the work under `key`; None when `stop` is set first.

        `on_wait` is told who has it, when that takes long.
        """
        self.check_writable()
        return wait_lock(self._base / "locks" / key, stop, on_wait)

    @contextmanager
    def workspace(self, name: str) -> Iterator[Path]:
        """Lend an empty folder on the store's file system, `name` tells what for; it is removed at the end."""
        path = self._present().folder / f"{name[:16]}-{os.urandom(4).hex()}"
        disk.make_directory(path)
        try:
            yield path
        finally:
            disk.remove_tree(path)

    def close(self) -> None:
        """End this process's session, with all it claimed, and close this thread's connection."""
        with self._session_mutex:
            session, self._session = self._session, None
            if session is not None:
                session.end()
        self.close_thread()

    def close_thread(self) -> None:
        """Close this thread's connection to the index; the next use opens another."""
        self._index.close()

    def check_writable(self) -> None:
        """Raise StoreError where the store may only be read."""
        if self.read_only:
            raise StoreError(
                f"the store `{self.root}` is read-only, and there is work to put into it",
                hint="choose a store that may be written with MAXBUILD_STORE, or fill this one where it may be",
            )

    def statistics(self) -> Statistics:
        """Count what the store holds."""
        blobs = [path.lstat().st_size for path in self._blobs.files()]
        return Statistics(
            blobs=len(blobs),
            blob_bytes=sum(blobs),
            references=len(self._index.keys("reference:")),
            results=len(self._index.keys("result:")),
            index_bytes=self._index.size(),
            quarantined=len(list(self._blobs.quarantined())),
            log_bytes=sum(path.lstat().st_size for path in (self._base / "logs").glob("*.log")),
        )

    # For housekeeping alone

    @property
    def base(self) -> Path:
        """Return where this version's layout lies."""
        return self._base

    @property
    def index(self) -> Index:
        """Return the index."""
        return self._index

    @property
    def blobs(self) -> Blobs:
        """Return the content."""
        return self._blobs

    def _present(self) -> Session:
        """Return this process's session, begun on first need."""
        with self._session_mutex:
            if self._session is None:
                self._session = Session.begin(self._base)
            return self._session


def _absolute(path: Path) -> str:
    """Return `path` made absolute: every build asks this of every source file, and `Path.absolute` takes ten times."""
    text = os.fspath(path)
    return text if text.startswith("/") else f"{os.getcwd()}/{text}"


def _hash(path: Path) -> Digest:
    try:
        return hash_file(path)
    except OSError as error:
        raise disk.storage_error(error, "read", path) from error


def _is_read_only(base: Path) -> bool:
    """Return whether there is a store at `base` that this process may not write."""
    index = base / "index"
    places = [base, index, index / DATABASE]
    if not os.access(places[-1], os.R_OK):  # damaged, or not there
        places.pop()
    return base.is_dir() and not all(os.access(place, os.W_OK) for place in places if place.exists())


def _outputs(rows: Iterable[JSON]) -> Iterator[str]:
    for row in rows:
        match row:
            case {"outputs": dict() as outputs, "stamps": dict() as stamps}:
                yield from (digest for name, digest in outputs.items() if not stamps.get(name))


def _scope_row(scope: str) -> str:
    return f"scope:{json.dumps(scope)}"


def _last_row(scope: str, name: str) -> str:
    return f"last:{json.dumps([scope, name])}"


def _parse(row: type[Row], value: JSON) -> Row | None:
    """Read a row of the index; one that is no such record counts as absent."""
    try:
        return None if value is None else row.from_json(value)
    except (ValueError, TypeError, AttributeError):
        return None
