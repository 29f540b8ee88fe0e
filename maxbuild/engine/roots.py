"""Roots: packages that are still where they were placed. What each was made of is not let go of.

A root holds as long as its witness, a file of the package, has the digest it was registered with; no clock has a say.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii
from pathlib import Path

from maxbuild.engine.canonical import JSON
from maxbuild.engine.digest import Digest, TaskKey, hash_file
from maxbuild.engine.store import Store

ROOT = "root:"
"""What the keys of roots' rows begin with."""


@dataclass(frozen=True, slots=True)
class Root:
    """A file that shows that a package is there, the digest it has then, and the results the package was made of."""

    witness: Path
    digest: Digest
    keys: frozenset[TaskKey]

    @property
    def row(self) -> str:
        """Return the key of the root's row: one place has one root."""
        return f"{ROOT}{encode_basestring_ascii(str(self.witness))}"

    def holds(self) -> bool:
        """Return whether the package is still there."""
        try:
            return hash_file(self.witness) == self.digest
        except (OSError, ValueError):
            return False


def add_root(store: Store, witness: Path, digest: Digest, keys: Iterable[TaskKey]) -> None:
    """Keep the results under `keys` as long as the file `witness` has `digest`; a store that is read-only forgets it.

    Nothing is written where that is known already.
    """
    root = Root(witness.absolute(), digest, frozenset(keys))
    content: JSON = {"digest": root.digest, "keys": sorted(root.keys)}
    with store.steady():  # a collector must not remove what it took for a package that is gone
        if store.index.get_json(root.row) != content:
            store.index.set_json(root.row, content)


def read_roots(store: Store) -> tuple[list[Root], list[str]]:
    """Return the roots of `store`, whether or not they hold, and the rows that should be roots and are none."""
    roots, unreadable = [], []
    for row, value in store.index.rows(ROOT).items():
        root = _parse(row, value)
        if root is None:
            unreadable.append(row)
        else:
            roots.append(root)
    return roots, unreadable


def _parse(row: str, value: JSON) -> Root | None:
    try:
        witness = json.loads(row.removeprefix(ROOT))
        match value:
            case {"digest": str(digest), "keys": list() as keys} if isinstance(witness, str):
                return Root(Path(witness), Digest(digest), frozenset(TaskKey(str(key)) for key in keys))
    except ValueError:
        return None
    return None
