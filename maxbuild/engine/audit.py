"""The audit: reads all that a store has and says what is not what it should be. Rotten bits show in no stat tuple.

What is damaged is set aside, so that the next build makes it again.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from maxbuild.engine.digest import Digest, TaskKey, hash_file
from maxbuild.engine.holdings import RESULT, Holdings, OwnFile, take_stock
from maxbuild.engine.records import Record
from maxbuild.engine.store import Store
from maxbuild.engine.task import Progress, Task, check_output_name

_REFERENCE = "reference:"
_MOST_THREADS = 8


class Damage(StrEnum):
    """What is wrong with something in a store."""

    CONTENT = "damaged content"
    """A file of the store's own does not hold what its name says, or cannot be read."""
    OUTSIDE = "changed outside"
    """A file outside of the store holds something else, and its stat tuple does not show it."""
    STRANGER = "no content"
    """A file among the content has no content's name."""
    ROW = "unreadable row"
    """A row of the index should be a result and is none."""
    INCOMPLETE = "incomplete result"
    """A result names content that is missing or damaged."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: `name` is a path, the key of a row, or the kind and the key of a result."""

    damage: Damage
    name: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit found, and how much it went through; `size` is in bytes."""

    findings: tuple[Finding, ...]
    files: int
    size: int
    results: int


@dataclass(frozen=True, slots=True)
class _Claimed:
    """A file that the store takes for the content `digest`."""

    path: Path
    digest: Digest
    size: int
    own: bool


def audit(store: Store, progress: Progress = lambda _done, _total: None) -> Audit:
    """Read all content of `store` and all results, set aside what is damaged, and return what was found.

    `progress` is called with the bytes read and those to read. A read-only store is only looked at.
    """
    stock = take_stock(store)
    files = [*_own(stock), *_outside(store)]
    findings = [_stranger(file) for file in stock.strangers]
    bad: set[Digest] = set()
    for file, trouble in _read_all(files, progress):
        if trouble:
            bad.add(file.digest)
            findings.append(_set_aside(store, file, trouble))
    findings += [Finding(Damage.ROW, row) for row in stock.unreadable]
    findings += _check_results(store, stock.results, bad)
    return Audit(tuple(findings), len(files), sum(file.size for file in files), len(stock.results))


def _own(stock: Holdings) -> Iterator[_Claimed]:
    for digest, file in sorted(stock.files.items()):
        yield _Claimed(file.path, digest, file.size, own=True)


def _outside(store: Store) -> Iterator[_Claimed]:
    """Yield the files outside of the store that would be believed without being read."""
    for row in store.index.keys(_REFERENCE):
        with suppress(ValueError):
            digest = Digest(row.removeprefix(_REFERENCE))
            for path in store.blobs.references(digest):
                if store.blobs.is_believed(path, digest):
                    yield _Claimed(path, digest, _size(path), own=False)


def _read_all(files: Collection[_Claimed], progress: Progress) -> Iterator[tuple[_Claimed, str]]:
    """Yield every file with what is wrong with it, if anything; several are read at once."""
    done, total = 0, sum(file.size for file in files)
    threads = min(len(os.sched_getaffinity(0)), _MOST_THREADS)
    with ThreadPoolExecutor(threads) as pool:
        try:
            for file, trouble in zip(files, pool.map(_trouble, files), strict=True):
                done += file.size
                progress(done, total)
                yield file, trouble
        finally:
            pool.shutdown(cancel_futures=True)


def _trouble(file: _Claimed) -> str:
    """Read a file and return what is wrong with it, nothing where all is well, or where it is gone."""
    try:
        digest = hash_file(file.path)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return "" if digest == file.digest else f"it holds {digest}"


def _set_aside(store: Store, file: _Claimed, trouble: str) -> Finding:
    if not file.own:
        if not store.read_only:
            store.blobs.doubt(file.path)
        return Finding(Damage.OUTSIDE, str(file.path), trouble)
    shared = "; further names of it, in packages say, show the same bytes" if _links(file.path) > 1 else ""
    if not store.read_only:
        store.blobs.set_aside(file.digest)
    return Finding(Damage.CONTENT, str(file.path), trouble + shared)


def _stranger(file: OwnFile) -> Finding:
    return Finding(Damage.STRANGER, str(file.path), "its name is no digest")


def _check_results(store: Store, keys: Iterable[TaskKey], bad: Collection[Digest]) -> Iterator[Finding]:
    for key in keys:
        record = store.read_record(key)
        if record is None:
            continue  # somebody took it meanwhile
        if trouble := trouble_of(record):
            yield Finding(Damage.ROW, f"{RESULT}{key}", trouble)
            continue
        missing = {gap.what for gap in store.gaps(record)}
        missing |= {name for name, digest in record.result.outputs.items() if digest in bad}
        if missing:
            yield Finding(Damage.INCOMPLETE, f"{record.document.kind} {key}", f"lacks {', '.join(sorted(missing))}")


def trouble_of(record: Record) -> str:
    """Return what is wrong with a record itself, whatever became of its content; nothing where all is well."""
    try:
        document = record.document
        task = Task(document.kind, document.kind, document.params, {}, document.toolchain, document.outputs)
        for name in record.result.outputs:
            check_output_name(name)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        return str(error)
    lacking = sorted(set(task.single_outputs) - record.result.outputs.keys())
    foreign = sorted(name for name in record.result.outputs if not task.declares(name))
    return "; ".join([*(f"it has no `{name}`" for name in lacking), *(f"it declares no `{name}`" for name in foreign)])


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _links(path: Path) -> int:
    try:
        return path.lstat().st_nlink
    except OSError:
        return 1
