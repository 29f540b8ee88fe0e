"""The memo: digests of files by their stat tuple, so an unchanged file is not read again.

Tuples are compared for equality only. A tuple taken while the file system's clock stood still is not kept: a change
in the same tick would not show in it.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from contextlib import suppress
from json.encoder import encode_basestring_ascii
from pathlib import Path
from typing import NamedTuple, Self

from maxbuild.engine import disk
from maxbuild.engine.digest import Digest, hash_file
from maxbuild.engine.index import Index
from maxbuild.errors import StoreError

_SECOND = 10**9
_TICK_WAIT = 0.002
_TICK_TRIES = 12
_READ_TRIES = 3
_CHANGED = 4  # the place of the change time in a stamp, which a further hard link alone moves


class UnsteadyFile(OSError):
    """A file changed each time it was read."""


class Stamp(NamedTuple):
    """The stat tuple of a file: which file it is, its size in bytes, and its two change times in nanoseconds."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int

    @classmethod
    def of(cls, path: str | Path) -> Self:
        """Return the stamp of the file at `path`, following links; OSError when there is no regular one."""
        status = os.stat(path)  # noqa: PTH116 - a null build does little else, and Path.stat takes twice as long
        if not stat.S_ISREG(status.st_mode):  # to read a pipe would be to wait for ever
            raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
        return cls.of_status(status)

    @classmethod
    def of_plain(cls, path: str) -> Self:
        """Return the stamp of the file at `path` itself; OSError where that is a link, a pipe, or not to be read."""
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode) or not status.st_mode & stat.S_IRUSR:
            raise OSError(errno.EINVAL, "not a plain file", path)
        return cls.of_status(status)

    @property
    def of_sealed(self) -> tuple[int, ...]:
        """Return what counts of a file that nobody writes in place: all but the change time, which links move."""
        return self[:_CHANGED]

    @classmethod
    def of_status(cls, status: os.stat_result) -> Self:
        """Return the stamp that `status` tells."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class Memo:
    """Digests of files.

    A `sealed` file is one nobody writes in place: for it the change time does not count, because packages are made of
    hard links, and each link moves it.
    """

    def __init__(self, index: Index, clock: Path | None) -> None:
        """Keep rows in `index`; `clock` is a file to touch, to read a file system's clock from; None forgets all."""
        self._index = index
        self._clock = clock

    def known(self, path: str | Path, *, sealed: bool = False) -> Digest | None:
        """Return the digest of `path` if it is known without reading it; None also where there is no such file."""
        text = self._noted(path, sealed=sealed)
        return None if text is None else _digest(text)

    def holds(self, path: str | Path, digest: Digest, stamp: Stamp | None = None) -> bool:
        """Return whether the sealed file `path` holds `digest`, reading it where its `stamp` is not known.

        Raises OSError when it cannot be read.
        """
        return self._noted(path, sealed=True, stamp=stamp) == digest or self.digest(path, sealed=True) == digest

    def digest(self, path: str | Path, *, sealed: bool = False) -> Digest:
        """Return the digest of `path`, reading it where its stamp is not known.

        Raises OSError when it cannot be read, UnsteadyFile when it changes all the while.
        """
        digest = self.known(path, sealed=sealed)
        if digest is not None:
            return digest
        for _ in range(_READ_TRIES):
            settled = self._settled(path)
            before = Stamp.of(path)
            digest = hash_file(Path(path))
            if Stamp.of(path) == before:
                if settled and _is_on_disk(path):
                    self.remember(path, before, digest)
                return digest
        raise UnsteadyFile(f"`{path}` changed while it was read")

    def remember(self, path: str | Path, stamp: Stamp, digest: Digest) -> None:
        """Note that `path`, with `stamp`, holds the content `digest`."""
        self._index.set_json(stamp_row(path), [*stamp, digest])

    def vouch(self, path: str | Path, digest: Digest, status: os.stat_result) -> None:
        """Note that `path` held `digest` when its stat tuple was `status`, as who brought it to the disk says.

        Where a change in the same tick would not show nothing is noted, and the file is read when it is asked for.
        """
        with suppress(OSError):
            if self._settled(path):
                self.remember(path, Stamp.of_status(status), digest)

    def renew(self, path: str | Path, digest: Digest) -> bool:
        """Return whether `path` still holds `digest`; a change time that alone moved is taken for a further link."""
        if self.known(path) == digest:
            return True
        if self.known(path, sealed=True) == digest:
            self.remember(path, Stamp.of(path), digest)
            return True
        return self.digest(path) == digest

    def _noted(self, path: str | Path, *, sealed: bool, stamp: Stamp | None = None) -> str | None:
        """Return what the index says `path` holds, if it says so of a file with the stamp that `path` has."""
        try:
            stamp = stamp or Stamp.of(path)
        except (OSError, ValueError):  # a name with a zero byte is no file's
            return None
        row = self._index.get_json(stamp_row(path))
        if isinstance(row, list) and len(row) == len(stamp) + 1 and isinstance(row[-1], str):
            known = tuple(row[:-1])
            if known == stamp or (sealed and known[:_CHANGED] == stamp.of_sealed):
                return row[-1]
        return None

    def _settled(self, path: str | Path) -> bool:
        """Wait a little for the clock to leave the tick in which `path` last changed; return whether it has."""
        if self._clock is None:
            return False
        for _ in range(_TICK_TRIES):
            changed = Stamp.of(path).changed
            unit = _SECOND if changed % _SECOND == 0 else 1  # some file systems count whole seconds
            if disk.touch(self._clock) // unit != changed // unit:
                return True
            time.sleep(_TICK_WAIT)
        return False


def _is_on_disk(path: str | Path) -> bool:
    """Bring the bytes of `path` to the disk; False where that cannot be done, and then nothing may be noted of them.

    File systems bring the times of a file there without its bytes: after a loss of power, an input could have the stat
    tuple of the new content and the content of before.
    """
    try:
        disk.sync_file(Path(path))
    except StoreError:
        return False
    return True


def stamp_row(path: str | Path) -> str:
    """Return the key of the row that keeps what is known of `path`."""
    return f"stamp:{encode_basestring_ascii(os.fspath(path))}"


def _digest(text: str) -> Digest | None:
    try:
        return Digest(text)
    except ValueError:
        return None
