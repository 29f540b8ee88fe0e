"""Holdings: what a store has at one moment, as those see it who decide what to let go of."""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from maxbuild.engine.canonical import JSON
from maxbuild.engine.digest import Digest, TaskKey
from maxbuild.engine.records import Record
from maxbuild.engine.store import Store

RESULT = "result:"
"""What the keys of results' rows begin with."""


@dataclass(frozen=True, slots=True)
class Held:
    """One result: the kind of its task, the content it names, and when it was written, in seconds since 1970."""

    key: TaskKey
    kind: str
    contents: frozenset[Digest]
    written: float


@dataclass(frozen=True, slots=True)
class OwnFile:
    """One file of the store's own content: its size in bytes, and how many names it has, ours among them."""

    path: Path
    size: int
    links: int

    @property
    def freed(self) -> int:
        """Return how many bytes the disk gets back once our name is gone: none while somebody has another."""
        return self.size if self.links == 1 else 0


@dataclass(frozen=True, slots=True)
class Holdings:
    """All results and all files of a store."""

    results: Mapping[TaskKey, Held]
    unreadable: tuple[str, ...]
    """The rows that should be results and are none."""
    files: Mapping[Digest, OwnFile]
    strangers: tuple[OwnFile, ...]
    """Files among the content that have no content's name."""

    @property
    def size(self) -> int:
        """Return the bytes of the store's own content."""
        return sum(file.size for file in self.files.values())


def take_stock(store: Store) -> Holdings:
    """Return what `store` has now."""
    results, unreadable = read_results(store)
    files: dict[Digest, OwnFile] = {}
    strangers = []
    for file in own_files(store):
        try:
            files[Digest(file.path.name)] = file
        except ValueError:
            strangers.append(file)
    return Holdings(results, tuple(unreadable), files, tuple(strangers))


def read_results(store: Store) -> tuple[dict[TaskKey, Held], list[str]]:
    """Return the results of `store`, and the rows that should be some and are none."""
    written = store.index.written(RESULT)
    results: dict[TaskKey, Held] = {}
    unreadable = []
    rows = store.index.rows(RESULT)
    for row in sorted(rows.keys() | written.keys()):
        held = _read(row, rows.get(row), written.get(row, 0.0))
        if held is None:
            unreadable.append(row)
        else:
            results[held.key] = held
    return results, unreadable


def own_files(store: Store) -> Iterator[OwnFile]:
    """Yield every file of the store's own content, whatever its name."""
    for path in store.blobs.files():
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            continue
        if stat.S_ISREG(status.st_mode):
            yield OwnFile(path, status.st_size, status.st_nlink)


def named_by(results: Mapping[TaskKey, Held]) -> Counter[Digest]:
    """Return how many of `results` name each content."""
    return Counter(digest for held in results.values() for digest in held.contents)


def _read(row: str, value: JSON, written: float) -> Held | None:
    try:
        record = Record.from_json(value)
        if row != f"{RESULT}{record.key}":
            return None
        return Held(record.key, _kind(record), frozenset(record.result.outputs.values()), written)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None


def _kind(record: Record) -> str:
    """Return the kind that a document names; it is not parsed any further, which would take most of the time."""
    match json.loads(record.text):
        case {"kind": str(kind)}:
            return kind
    raise ValueError("a document without a kind")


@dataclass(frozen=True, slots=True)
class KindShare:
    """What a store has of one kind: results, and the bytes of the store's own content that they name, each once."""

    kind: str
    results: int
    size: int


def by_kind(stock: Holdings) -> list[KindShare]:
    """Return what `stock` has of every kind, sorted; content that several kinds name counts for each."""
    shares = []
    for kind in sorted({held.kind for held in stock.results.values()}):
        held = [held for held in stock.results.values() if held.kind == kind]
        contents = {digest for result in held for digest in result.contents if digest in stock.files}
        shares.append(KindShare(kind, len(held), sum(stock.files[digest].size for digest in contents)))
    return shares
