"""What is done to a store behind the engine's back: results and blobs removed or damaged; and what is left of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from maxbuild.engine import Store, TaskKey
from maxbuild.engine.index import Index


@dataclass(frozen=True)
class Left:
    """What there is in a store, by key and by digest; damaged blobs lie among the others until somebody looks."""

    results: frozenset[str]
    references: frozenset[str]
    blobs: frozenset[str]
    aside: frozenset[str]


def left_in(store: Store) -> Left:
    """Return what there is in `store`, without a look at what blobs hold."""
    rows = rows_of(store)
    return Left(
        results=frozenset(row.removeprefix("result:") for row in rows.keys("result:")),
        references=frozenset(row.removeprefix("reference:") for row in rows.keys("reference:")),
        blobs=frozenset(path.name for path in (store.root / "v1" / "cas" / "sha256").glob("*/*")),
        aside=frozenset(path.name for path in (store.root / "v1" / "quarantine").iterdir()),
    )


def drop_result(store: Store, key: TaskKey) -> None:
    """Remove the row of a result, and leave its blobs."""
    rows_of(store).delete(f"result:{key}")


def harm_blob(store: Store, digest: str, how: str) -> None:
    """Delete a blob, empty it, or write something more into it."""
    path = blob_file(store, digest)
    content = path.read_bytes()
    if how == "delete":
        path.unlink()
        return
    path.chmod(0o644)
    path.write_bytes(b"" if how == "truncate" and content else content + b"!")


def blob_file(store: Store, digest: str) -> Path:
    """Return where the store keeps a blob of its own, without looking at it."""
    return store.root / "v1" / "cas" / "sha256" / digest[:2] / digest


def rows_of(store: Store) -> Index:
    """Return the rows of a store."""
    return store._index
