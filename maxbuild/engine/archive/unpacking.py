"""Unpacking: from an archive into a store. Content is believed by its digest, a result by its key, nothing else at all.

Results come into the store only when the archive was read to its end and found to be whole; until then, all it has left
is content that is what its name says.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from maxbuild.engine import disk
from maxbuild.engine.archive.form import LAST, RESULTS, BadArchive, Head, Member, Reader, Source, ignore_progress
from maxbuild.engine.audit import trouble_of
from maxbuild.engine.canonical import JSON
from maxbuild.engine.digest import Digest
from maxbuild.engine.records import Last, Record
from maxbuild.engine.store import Store
from maxbuild.engine.task import Progress

_LONGEST_LINE = 64 << 20
_BATCH = 256


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What an archive brought: results and contents in it, and how many of them were new; `size` in bytes."""

    results: int
    new_results: int
    contents: int
    new_contents: int
    size: int


def unpack(store: Store, source: Source, progress: Progress = ignore_progress) -> Unpacked:
    """Put what an archive holds into `store`; what is there already stays as it is.

    Raises BadArchive for anything but a whole archive, and StoreError when the disk refuses.
    """
    store.check_writable()
    reader = Reader(source)
    head = reader.head()
    with store.workspace("import") as folder:
        contents, new = _take_contents(store, reader, head, folder, progress)
        lines = {name: folder / name for name in (RESULTS, LAST)}
        member = contents.next
        for path, digest in zip(lines.values(), (head.results_digest, head.last_digest), strict=True):
            if member is None or member.name != path.name:
                raise BadArchive(f"it has no `{path.name}`" if member is None else f"`{member.name}` is out of place")
            _expect(digest, _spool(reader, member, path), member)
            member = reader.next()
        if member is not None:
            raise BadArchive(f"`{member.name}` is out of place")
        _check_all(lines, head, contents.digests)
        new_results = _record(store, lines[RESULTS])
        _name(store, lines[LAST])
    return Unpacked(head.results, new_results, head.contents, new, head.size)


@dataclass(frozen=True, slots=True)
class _Contents:
    digests: frozenset[Digest]
    next: Member | None
    """The member that follows."""


def _take_contents(store: Store, reader: Reader, head: Head, folder: Path, progress: Progress) -> tuple[_Contents, int]:
    """Take all content into the store, and return what there was, and how much of it was new."""
    digests: set[Digest] = set()
    new, size, before = 0, 0, ""
    while (member := reader.next()) is not None and (digest := member.digest()) is not None:
        if digest <= before:
            raise BadArchive(f"`{member.name}` comes twice, or out of order")
        size += member.size
        if size > head.size:
            raise BadArchive(f"`{member.name}` is larger than its head says")
        new += _take_content(store, reader, member, digest, folder)
        digests.add(digest)
        before = digest
        progress(size, head.size)
    if member is not None and member.name != RESULTS:
        raise BadArchive(f"`{member.name}` is out of place")
    if (len(digests), size) != (head.contents, head.size):
        raise BadArchive("it does not hold as much as its head says")
    return _Contents(frozenset(digests), member), new


def _take_content(store: Store, reader: Reader, member: Member, digest: Digest, folder: Path) -> bool:
    """Take one content into the store and return whether it was new. It is read and checked in any case."""
    if store.hold(digest) is not None:
        hashed = hashlib.sha256()
        for piece in iter(reader.piece, b""):
            hashed.update(piece)
        _expect(digest, hashed.hexdigest(), member)
        return False
    path = folder / digest
    _expect(digest, _spool(reader, member, path), member)
    store.publish(path, digest=digest)
    return True


def _expect(digest: Digest, found: str, member: Member) -> None:
    if found != digest:
        raise BadArchive(f"`{member.name}` holds {found}")


def _spool(reader: Reader, member: Member, path: Path) -> str:
    """Write a member to `path` and return its sha256."""
    hashed = hashlib.sha256()
    with disk.effect("write", path, member.size), path.open("xb") as file:
        for piece in iter(reader.piece, b""):
            hashed.update(piece)
            file.write(piece)
    return hashed.hexdigest()


def _check_all(lines: Mapping[str, Path], head: Head, contents: Collection[Digest]) -> None:
    """Raise BadArchive unless every line is a result whose content is here, or a newest document."""
    before, results = "", 0
    for value in _read_lines(lines[RESULTS]):
        record = _result(value)
        if record.key <= before:
            raise BadArchive(f"result {record.key} comes twice, or out of order")
        if not set(record.result.outputs.values()).issubset(contents):
            raise BadArchive(f"result {record.key} names content that is not in it")
        before, results = record.key, results + 1
    names = [_newest(value)[:2] for value in _read_lines(lines[LAST])]
    if names != sorted(set(names)):
        raise BadArchive(f"`{LAST}` names a task twice, or out of order")
    if (results, len(names)) != (head.results, head.last):
        raise BadArchive("it does not hold as many results as its head says")


def _record(store: Store, path: Path) -> int:
    """Put down the results that are not there yet, and return how many those are."""
    new = 0
    waiting = _read_lines(path)
    while batch := [_result(value) for value in islice(waiting, _BATCH)]:
        with store.steady():
            new += sum(store.record_result(record) is record for record in batch)
    return new


def _name(store: Store, path: Path) -> None:
    """Put down the newest documents of tasks that have none, so that reasons can be told from now on."""
    for value in _read_lines(path):
        scope, name, last = _newest(value)
        if store.last(scope, name) is None:
            store.set_last(scope, name, last)


def _read_lines(path: Path) -> Iterator[Mapping[str, JSON]]:
    with path.open("rb") as file:
        while line := file.readline(_LONGEST_LINE + 1):
            if not line.endswith(b"\n"):
                raise BadArchive(f"a line of `{path.name}` is cut or too long")
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                raise BadArchive(f"a line of `{path.name}` is no JSON") from None
            if not isinstance(value, dict):
                raise BadArchive(f"a line of `{path.name}` is no object")
            yield value


def _result(value: Mapping[str, JSON]) -> Record:
    """Return the result of a line; BadArchive where it is none, or not that of its key."""
    try:
        record = Record.from_json(value)
    except (ValueError, TypeError, AttributeError):
        raise BadArchive(f"a line of `{RESULTS}` is no result") from None
    if record.key != value.get("key"):
        raise BadArchive(f"a result is not that of its key: {record.key}")
    if trouble := trouble_of(record):
        raise BadArchive(f"result {record.key} is none: {trouble}")
    if not (math.isfinite(record.seconds) and record.seconds >= 0 and record.size >= 0):
        raise BadArchive(f"result {record.key} has numbers that cannot be")
    return record


def _newest(value: Mapping[str, JSON]) -> tuple[str, str, Last]:
    """Return scope, name and newest document of a line; BadArchive where it is none."""
    match value:
        case {"scope": str(scope), "name": str(name)}:
            try:
                last = Last.from_json(value)
                _ = last.document  # it must be one
            except (ValueError, TypeError, AttributeError, RecursionError):
                raise BadArchive(f"what `{LAST}` says of `{name}` is no document") from None
            return scope, name, last
    raise BadArchive(f"a line of `{LAST}` names no task")
