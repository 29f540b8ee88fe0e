"""Waste: what lies in a store and serves no result. It is found without touching anything, and removed piece by piece.

What a builder may be about to name is waste only while nobody builds: content without a result, and where content lies
outside of the store.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path

from maxbuild.engine import disk
from maxbuild.engine.holdings import Holdings, named_by, read_results
from maxbuild.engine.journal import Run, RunState, runs
from maxbuild.engine.roots import Root, read_roots
from maxbuild.engine.session import claims_of_the_living, folders_of_the_dead, sweep
from maxbuild.engine.store import Store

JOURNALS = 100
"""How many journals of runs are kept, beside those that are pinned and those that others refer to."""

_BATCH = 256
"""How many pieces go while everybody else waits."""
_STAMP, _REFERENCE = "stamp:", "reference:"


class Sort(StrEnum):
    """What a piece of waste is."""

    CONTENT = "content"
    """A file among the content that no result names."""
    REFERENCE = "reference"
    """A note where content lies outside of the store, which no result names."""
    ROW = "row"
    """A row of the index that is not what it should be."""
    STAMP = "stamp"
    """A note of the digest of a file that is gone."""
    ROOT = "root"
    """A note of a package that is gone, or is another now."""
    QUARANTINE = "quarantine"
    """Damaged content that was set aside."""
    BROKEN_INDEX = "broken index"
    """An index that could not be read and was set aside."""
    SCRATCH = "scratch"
    """What a process left that died."""
    LOG = "log"
    """What a task without a result wrote."""
    JOURNAL = "journal"
    """What a run did, long ago."""


_SHARED = frozenset({Sort.CONTENT, Sort.REFERENCE, Sort.ROW, Sort.ROOT})
"""What builders could come to rely on."""


@dataclass(frozen=True, slots=True)
class Waste:
    """One piece: `name` is a path, or the key of a row; `size` is what the store, `freed` what the disk gets back."""

    sort: Sort
    name: str
    size: int = 0
    freed: int = 0


def find_waste(
    store: Store, stock: Holdings, roots: Collection[Root], *, living: bool, before: float | None = None
) -> list[Waste]:
    """Return what of a store that holds `stock` serves nothing, when `roots` hold and builders are `living` or not.

    `before`: what tells of mistakes (logs, what was set aside) is no waste if it is younger, in seconds since 1970.
    """
    found = [*_rows(store, stock, roots), *_set_aside(store, stock, before), *_scratch(store), *_journals(store)]
    return found if living else [*found, *_unnamed(store, stock)]


def remove_waste(store: Store, waste: Iterable[Waste]) -> list[Waste]:
    """Remove what was found, and return what of it is gone; what is of use by now stays."""
    gone: list[Waste] = []
    shared: list[Waste] = []
    for piece in waste:
        if piece.sort in _SHARED:
            shared.append(piece)
            continue
        _remove(store, piece)
        gone.append(piece)
    return [*gone, *_remove_in_batches(store, shared)]


def _remove(store: Store, piece: Waste) -> None:
    match piece.sort:
        case Sort.STAMP:
            store.index.delete(piece.name)
        case Sort.BROKEN_INDEX:
            disk.remove_tree(Path(piece.name))
        case Sort.SCRATCH:
            sweep(store.base)  # all of it, and only what is still nobody's
        case _:
            disk.unlink(Path(piece.name))


def _remove_in_batches(store: Store, pieces: Iterable[Waste]) -> Iterator[Waste]:
    """Remove what builders could come to rely on, a few pieces at a time, each time making sure that nobody does."""
    waiting = iter(pieces)
    while batch := list(islice(waiting, _BATCH)):
        with store.collecting():
            living = bool(claims_of_the_living(store.base).living)
            results, unreadable = read_results(store)
            useful = named_by(results).keys() | {root.row for root in read_roots(store)[0] if root.holds()}
            gone = [piece for piece in batch if _is_still_waste(piece, useful, unreadable, living=living)]
            for piece in gone:
                if piece.sort is Sort.CONTENT:
                    store.blobs.remove(Path(piece.name))
                else:
                    store.index.delete(piece.name)
        yield from gone


def _is_still_waste(piece: Waste, useful: Collection[str], unreadable: Collection[str], *, living: bool) -> bool:
    match piece.sort:
        case Sort.CONTENT:
            return not living and Path(piece.name).name not in useful
        case Sort.REFERENCE:
            return not living and piece.name.removeprefix(_REFERENCE) not in useful
        case Sort.ROOT:
            return piece.name not in useful
        case _:
            return piece.name in unreadable


def _unnamed(store: Store, stock: Holdings) -> Iterator[Waste]:
    named = named_by(stock.results)
    unnamed = [file for digest, file in stock.files.items() if digest not in named]
    for file in sorted([*unnamed, *stock.strangers], key=lambda file: file.path):
        yield Waste(Sort.CONTENT, str(file.path), file.size, file.freed)
    for row in store.index.keys(_REFERENCE):
        if row.removeprefix(_REFERENCE) not in named:
            yield Waste(Sort.REFERENCE, row)


def _rows(store: Store, stock: Holdings, holding: Collection[Root]) -> Iterator[Waste]:
    for row in stock.unreadable:
        yield Waste(Sort.ROW, row)
    for row in store.index.keys(_STAMP):
        if not _is_there(row):
            yield Waste(Sort.STAMP, row)
    held = {root.row for root in holding}
    roots, unreadable = read_roots(store)
    for row in [*(root.row for root in roots if root.row not in held), *unreadable]:
        yield Waste(Sort.ROOT, row)


def _set_aside(store: Store, stock: Holdings, before: float | None) -> Iterator[Waste]:
    base = store.base
    for path in sorted(base.glob("quarantine/*")):
        if _is_older(path, before):
            yield Waste(Sort.QUARANTINE, str(path), _bytes_under(path), _freed_under(path))
    for path in sorted(base.glob("index.broken-*")):
        if _is_older(path, before):
            yield Waste(Sort.BROKEN_INDEX, str(path), _bytes_under(path), _bytes_under(path))
    if before is not None:
        for path in sorted(base.glob("logs/*.log")):
            if path.stem not in stock.results and _is_older(path, before):
                yield Waste(Sort.LOG, str(path), _bytes_under(path), _bytes_under(path))


def _scratch(store: Store) -> Iterator[Waste]:
    for folder in sorted(folders_of_the_dead(store.base)):
        yield Waste(Sort.SCRATCH, str(folder), _bytes_under(folder), _freed_under(folder))


def _journals(store: Store) -> Iterator[Waste]:
    found = runs(store)
    kept = [run for number, run in enumerate(found) if number < JOURNALS or _is_kept(run)]
    names = {run.id for run in kept} | {run.same_as for run in kept}
    for run in found:
        if run.id not in names:
            path = store.base / "runs" / f"{run.id}.jsonl"
            yield Waste(Sort.JOURNAL, str(path), _bytes_under(path), _bytes_under(path))


def _is_kept(run: Run) -> bool:
    return run.pinned or run.state is RunState.RUNNING


def _is_there(stamp_row: str) -> bool:
    """Return whether there is a file where a stamp's row says; a row that names none is of no use either."""
    try:
        return Path(json.loads(stamp_row.removeprefix(_STAMP))).exists()
    except (ValueError, TypeError):
        return False


def _is_older(path: Path, before: float | None) -> bool:
    try:
        return before is None or path.lstat().st_mtime < before
    except FileNotFoundError:
        return False


def _bytes_under(path: Path) -> int:
    return sum(status.st_size for status in _files_under(path))


def _freed_under(path: Path) -> int:
    return sum(status.st_size for status in _files_under(path) if status.st_nlink == 1)


def _files_under(path: Path) -> Iterator[os.stat_result]:
    """Yield what the system says of the file `path`, or of every file below it."""
    folders = [path]
    for folder in folders:  # it grows while we go through it
        try:
            if folder.is_symlink() or not folder.is_dir():
                yield folder.lstat()
            else:
                folders.extend(folder.iterdir())
        except OSError:
            continue
