"""What a file holds, by the digests that hubs use, found out in one pass over its bytes, as they come or lie."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from pathlib import Path
from typing import Final, NamedTuple

from maxbuild.lock import GIT_BLOB_SHA1, SHA256

_PIECE: Final = 1 << 20
_TICK: Final = 0.01
"""Seconds: at least one tick of the clock that file systems take their times from."""


class Content(NamedTuple):
    """Content by its size in bytes and its digests; `git_oid` is git's name of a blob, None where nobody asked."""

    size: int
    sha256: str
    git_oid: str | None = None

    def digest(self, algorithm: str) -> str | None:
        """Return the digest by `algorithm`."""
        return {SHA256: self.sha256, GIT_BLOB_SHA1: self.git_oid}[algorithm]


def read_content(path: Path, size: int, *, git: bool) -> tuple[Content, os.stat_result]:
    """Return what the file at `path`, of `size` bytes, holds, and its stat tuple all the while.

    The bytes are on the disk then, whoever wrote them, and whoever writes to it from now on leaves another tuple.
    Raises OSError where it cannot be read, or changes.
    """
    with path.open("rb", buffering=0) as file:
        before = os.fstat(file.fileno())
        time.sleep(_TICK)  # what is written from here on gets a later time than what was written before
        hashes = Hashes(size, git=git)
        while chunk := file.read(_PIECE):
            hashes.update(chunk)
        os.fsync(file.fileno())
        after = os.fstat(file.fileno())
    if not is_same_file(before, after):
        raise OSError(errno.EBUSY, "it changed while it was read", os.fspath(path))
    return hashes.content(), after


def is_same_file(before: os.stat_result, after: os.stat_result) -> bool:
    """Return whether both are of one file that nobody wrote to in between; a further name moves its change time."""
    return _of_content(before) == _of_content(after)


class Hashes:
    """The digests of a file of `size` bytes, as its bytes pass."""

    def __init__(self, size: int, *, git: bool) -> None:
        """Begin. git: whether git's digest is wanted too."""
        self.size = 0
        self._sha256 = hashlib.sha256()
        # Git's name for a file: sha1 of `blob`, the size, and the content.
        self._git = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False) if git else None

    def update(self, chunk: bytes) -> None:
        """Take the bytes that follow."""
        self.size += len(chunk)
        self._sha256.update(chunk)
        if self._git is not None:
            self._git.update(chunk)

    def content(self) -> Content:
        """Return what has passed."""
        return Content(self.size, self._sha256.hexdigest(), self._git.hexdigest() if self._git is not None else None)


def _of_content(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
