"""The memo: digests of files by their stat tuple, so an unchanged file is not read again.

Tuples are compared for equality only. A tuple taken while the file system's clock stood still is not kept: a change
in the same tick would not show in it.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Self

from maxbuild.engine import disk
from maxbuild.engine.digest import Digest, hash_file
from maxbuild.engine.index import Index

_SECOND = 10**9
_TICK_WAIT = 0.002
_TICK_TRIES = 12
_READ_TRIES = 3


class UnsteadyFile(OSError):
    """A file changed each time it was read."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """The stat tuple of a file: which file it is, its size in bytes, and its two change times in nanoseconds."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """Return the stamp of the file at `path`, following links; OSError when there is none."""
        status = path.stat()
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def same_bytes(self, other: Stamp) -> bool:
        """Return whether nothing but the change time differs, which a further hard link alone moves."""
        return replace(self, changed=other.changed) == other


class Memo:
    """Digests of files.

    A `sealed` file is one nobody writes in place: for it the change time does not count, because packages are made of
    hard links, and each link moves it.
    """

    def __init__(self, index: Index, clock: Path) -> None:
        """Keep rows in `index`; `clock` is a file to touch, to read a file system's clock from."""
        self._index = index
        self._clock = clock

    def known(self, path: Path, *, sealed: bool = False) -> Digest | None:
        """Return the digest of `path` if it is known without reading it; None also where there is no such file."""
        try:
            stamp = Stamp.of(path)
        except OSError:
            return None
        match self._index.get_json(_row(path)):
            case [int(device), int(inode), int(size), int(modified), int(changed), str(text)]:
                known = Stamp(device, inode, size, modified, changed)
                if known == stamp or (sealed and known.same_bytes(stamp)):
                    return _digest(text)
        return None

    def digest(self, path: Path, *, sealed: bool = False) -> Digest:
        """Return the digest of `path`, reading it where its stamp is not known.

        Raises OSError when it cannot be read, UnsteadyFile when it changes all the while.
        """
        digest = self.known(path, sealed=sealed)
        if digest is not None:
            return digest
        for _ in range(_READ_TRIES):
            settled = self._settled(path)
            before = Stamp.of(path)
            digest = hash_file(path)
            if Stamp.of(path) == before:
                if settled:
                    self.remember(path, before, digest)
                return digest
        raise UnsteadyFile(f"`{path}` changed while it was read")

    def remember(self, path: Path, stamp: Stamp, digest: Digest) -> None:
        """Note that `path`, with `stamp`, holds the content `digest`."""
        self._index.set_json(_row(path), [*astuple(stamp), digest])

    def renew(self, path: Path, digest: Digest) -> bool:
        """Return whether `path` still holds `digest`; a change time that alone moved is taken for a further link."""
        if self.known(path) == digest:
            return True
        if self.known(path, sealed=True) == digest:
            self.remember(path, Stamp.of(path), digest)
            return True
        return self.digest(path) == digest

    def _settled(self, path: Path) -> bool:
        """Wait a little for the clock to leave the tick in which `path` last changed; return whether it has."""
        for _ in range(_TICK_TRIES):
            changed = Stamp.of(path).changed
            unit = _SECOND if changed % _SECOND == 0 else 1  # some file systems count whole seconds
            if disk.touch(self._clock) // unit != changed // unit:
                return True
            time.sleep(_TICK_WAIT)
        return False


def _row(path: Path) -> str:
    return f"stamp:{json.dumps(os.fspath(path))}"


def _digest(text: str) -> Digest | None:
    try:
        return Digest(text)
    except ValueError:
        return None
