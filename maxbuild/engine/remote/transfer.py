"""Content on its way in and out, hashed as it passes: a file that stays is of its digest, and so is one that leaves."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from maxbuild.engine import disk
from maxbuild.engine.digest import Digest
from maxbuild.engine.remote.transport import Take
from maxbuild.engine.remote.trouble import Lie

EMPTY = Digest(hashlib.sha256(b"").hexdigest())
"""The digest of no bytes; REAPI has it that every remote holds that blob, so none is asked for it."""

PIECE = 1024 * 1024


class WrongSource(Exception):
    """A file that was to be sent is not what its digest says."""


class _Incoming:
    """A new file for the bytes of one digest; it stays only when all of them came and no others."""

    def __init__(self, path: Path, digest: Digest, size: int) -> None:
        """Create the file; StoreError when that cannot be, or when something has that name."""
        self._path, self._digest, self._size = path, digest, size
        self._hash = hashlib.sha256()
        self._count = 0
        self._file = disk.create(path, size)

    def take(self, piece: bytes) -> None:
        """Write a further piece; Lie as soon as there are more bytes than announced, StoreError when the disk fails."""
        self._count += len(piece)
        if self._count > self._size:
            raise Lie(f"sent more than the {self._size} bytes that were announced")
        self._hash.update(piece)
        rest = memoryview(piece)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            raise disk.storage_error(error, "write", self._path, self._size) from error

    def finish(self) -> None:
        """Keep the file; Lie when its bytes are not those of the digest."""
        if self._count < self._size:
            raise Lie(f"sent {self._count} of the {self._size} bytes that were announced")
        if self._hash.hexdigest() != self._digest:
            raise Lie("sent bytes that are not those of the digest")
        self._close()

    def discard(self) -> None:
        """Leave nothing behind."""
        if self._file >= 0:
            self._close()
        disk.unlink(self._path)

    def _close(self) -> None:
        descriptor, self._file = self._file, -1
        try:
            os.close(descriptor)
        except OSError as error:  # where a disk tells late that it is full
            raise disk.storage_error(error, "write", self._path, self._size) from error


def receive(read: Callable[[Take], bool], digest: Digest, size: int, destination: Path) -> bool:
    """Write what `read` hands over into the new file `destination`; return False where it has nothing.

    Raises Lie when it is not the content of `digest` with `size` bytes, StoreError when the disk fails. The file exists
    afterwards only where True is returned.
    """
    incoming = _Incoming(destination, digest, size)
    try:
        there = read(incoming.take)
        if there:
            incoming.finish()
    except BaseException:
        incoming.discard()
        raise
    if not there:
        incoming.discard()
    return there


def outgoing(path: Path, digest: Digest, size: int) -> Iterator[bytes]:
    """Yield the content of `path` in pieces, the last only when the whole has proved to be that of `digest`.

    So a damaged file never arrives whole. Raises WrongSource for one, StoreError when the file cannot be read.
    """
    state, count, held = hashlib.sha256(), 0, b""
    for piece in _pieces(path):
        state.update(piece)
        count += len(piece)
        if held:
            yield held
        held = piece
    if count != size or state.hexdigest() != digest:
        raise WrongSource
    yield held


def _pieces(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb", buffering=0) as file:
            while piece := file.read(PIECE):
                yield piece
    except FileNotFoundError as gone:
        raise WrongSource from gone
    except OSError as error:
        raise disk.storage_error(error, "read", path) from error
