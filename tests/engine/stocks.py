"""Support of the tests of housekeeping: results put into a store at any time, what is left, a build to carry."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from conftest import World, toy

from maxbuild.engine import (
    Kind,
    OutputOf,
    Record,
    Renewal,
    Result,
    SourceFile,
    Store,
    Task,
    TaskKey,
)
from maxbuild.engine.collect import Collected, collect
from maxbuild.engine.document import Document
from maxbuild.engine.holdings import own_files, take_stock
from maxbuild.engine.waste import Sort

RENEWALS: Mapping[str, Kind] = {
    "fetch": Kind("fetch", "toys:concat", isolated=False, renewal=Renewal.DOWNLOAD),
    "pack": Kind("pack", "toys:concat", isolated=False, renewal=Renewal.REPACK),
    "make": Kind("make", "toys:concat", isolated=False),
}
NOW = 2_000_000_000.0
DAY = 24 * 60 * 60.0
WEIGHTS = "weights " * 100


def put(store: Store, kind: str, name: str, *contents: bytes, written: float = NOW) -> TaskKey:
    """Put a result into `store` that names `contents`, as if a builder had at `written`; nobody claims it."""
    with Store(store.root) as builder:
        digests = {f"out{number}": builder.publish_bytes(content) for number, content in enumerate(contents)}
        document = Document(kind, {"name": name}, {}, {}, tuple(sorted(digests)))
        record = builder.record_result(Record.of(document.text, Result(digests), 1.0, 1))
        date(builder, record.key, written)
    return record.key


def date(store: Store, key: TaskKey, written: float) -> None:
    """Let a result be written at `written`."""
    store.index._opened()._cache._sql("UPDATE Cache SET store_time = ? WHERE key = ?", (written, f"result:{key}"))


def keys(store: Store) -> set[TaskKey]:
    """Return the keys of all results of `store`, each of which must be complete."""
    stock = take_stock(store)
    for key in stock.results:
        assert store.find_result(key) is not None, key
    return set(stock.results)


def blobs(store: Store) -> set[str]:
    """Return the names of all content of `store`'s own."""
    return {file.path.name for file in own_files(store)}


def taken(collected: Collected) -> list[TaskKey]:
    """Return the keys of the results that went, in the order in which they did."""
    return [piece.key for piece in collected.results]


def sorts(collected: Collected) -> set[Sort]:
    """Return which sorts of waste went."""
    return {piece.sort for piece in collected.waste}


def both(store: Store, **limits: object) -> Collected:
    """Collect, after a dry run that must say the same and change nothing."""
    before = keys(store), blobs(store)
    told = collect(store, RENEWALS, now=NOW, dry_run=True, **limits)  # type: ignore[arg-type]
    assert (keys(store), blobs(store)) == before
    done = collect(store, RENEWALS, now=NOW, **limits)  # type: ignore[arg-type]
    assert told == done
    return done


def tasks(world: World, folder: Path) -> list[Task]:
    """Return a build over two files in `folder`: content of the store's own, shared content, and a reference."""
    folder.mkdir(exist_ok=True)
    (folder / "words").write_text("one two")
    (folder / "weights").write_text(WEIGHTS)
    words, weights = SourceFile(folder / "words"), SourceFile(folder / "weights")
    return [
        toy("list", "multi_output", {"words": words}, outputs=("list", "parts/*")),
        toy("weights", "pass_through", {"from": weights}),
        toy("join", "concat", {"a": OutputOf("list", "parts/one"), "b": OutputOf("weights", "out")}),
        toy("twin", "concat", {"a": OutputOf("list", "parts/one"), "b": OutputOf("weights", "out")}),
    ]


def rot(path: Path) -> None:
    """Change a byte of a file and nothing that a stat tuple shows, but the change time, which a link moves too."""
    before = path.stat()
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    path.chmod(before.st_mode & 0o777)
