"""A file on its way: it grows beside its future place, is hashed as its bytes pass, and outlives who fetches it.

What it holds is always the beginning of the content, however a process ends: the next one reads it once, and goes on.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from maxbuild.hub.behind import Behind
from maxbuild.hub.hashes import Content, Hashes
from maxbuild.hub.hints import announce_size, begin_writing

SUFFIX: Final = ".maxbuild.incomplete"
"""`hf cache` counts, and prunes, what ends in `.incomplete`."""

_BATCH: Final = 1 << 20
"""Bytes that are written and hashed at once: less costs more calls, more keeps the processor's cache from helping."""
_WRITE: Final = 256 << 10
"""Bytes of one write. On the virtual machine where this was measured, writes of 1 MiB often took six times as long; the
page cache takes memory in pieces as large as a write, and large pieces seem to be the slow ones to get there."""
_AWAIT: Final = 0.2
"""Seconds after which what has come is written although it is little: a kill loses no more than that."""
_WORTH_A_THREAD: Final = 4 << 20
_FLUSH: Final = 32 << 20


class PartialFile:
    """The beginning of a file of `size` bytes at `path`. Whoever writes on at the same time writes the same bytes."""

    def __init__(self, path: Path, size: int, *, git: bool, progress: Callable[[int], None]) -> None:
        """Open or create it, and hash what is there; OSError when the disk refuses.

        git: whether git's digest of the content is wanted too.
        """
        self.path = path
        self.size = size
        self._git = git
        self._batch: list[bytes] = []
        self._pending = 0
        self._deadline = 0.0
        self._finished = False
        self._descriptor = _open(path)
        try:
            self._begin()
            if os.fstat(self._descriptor).st_size > size:
                os.ftruncate(self._descriptor, 0)
            self._read(progress)
            announce_size(self._descriptor, size)
        except BaseException:
            os.close(self._descriptor)
            raise
        self._behind = Behind(self._take) if size >= _WORTH_A_THREAD else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Keep what has come, for whoever goes on."""
        try:
            with suppress(OSError):  # what cannot be written now is fetched again
                self._drain()
        finally:
            if self._behind is not None:
                self._behind.end()
            if not self._finished:  # else even a cut that takes nothing away would move the file's times
                with suppress(OSError):
                    os.ftruncate(self._descriptor, self._hashes.size)  # gives back the room that was announced
            os.close(self._descriptor)

    @property
    def received(self) -> int:
        """Return how many bytes have come, from the beginning of the file on."""
        return self._received

    def write(self, chunk: bytes) -> None:
        """Take the bytes that follow; OSError when the disk refused these or earlier ones."""
        if not self._batch:
            self._deadline = time.monotonic() + _AWAIT
        self._batch.append(chunk)
        self._pending += len(chunk)
        self._received += len(chunk)
        if self._pending >= _BATCH or time.monotonic() >= self._deadline:
            self._hand_over()

    def restart(self) -> None:
        """Forget all that has come: it was the beginning of something else.

        A new file takes the place of the old one, so that nobody who writes there still can be cut short.
        """
        with suppress(OSError):
            self._drain()
        os.close(self._descriptor)
        self.path.unlink(missing_ok=True)
        self._descriptor = _open(self.path)
        self._begin()
        announce_size(self._descriptor, self.size)

    def discard(self) -> None:
        """Leave nothing for others to go on with."""
        self.path.unlink(missing_ok=True)

    def finish(self) -> Content:
        """Bring what has come to the disk, and return what it is."""
        self._drain()
        self._finished = True
        # A time between two ticks of the file system's clock: whoever writes here from now on leaves another one.
        now = time.time_ns()
        os.utime(self._descriptor, ns=(now, now))
        os.fsync(self._descriptor)
        return self._hashes.content()

    def status(self) -> os.stat_result:
        """Return the stat tuple of the file that was written, whatever lies at its path by now."""
        return os.fstat(self._descriptor)

    def _begin(self) -> None:
        self._hashes = Hashes(self.size, git=self._git)
        self._received = self._flushed = 0
        self._batch, self._pending = [], 0

    def _read(self, progress: Callable[[int], None]) -> None:
        """Hash what is there, which is the only time that it is read."""
        while chunk := os.read(self._descriptor, _BATCH):
            self._hashes.update(chunk)
            progress(self._hashes.size)
        self._received = self._flushed = self._hashes.size

    def _hand_over(self) -> None:
        batch, self._batch, self._pending = self._batch, [], 0
        if self._behind is None:
            self._take(batch)
        else:
            self._behind.put(batch)

    def _drain(self) -> None:
        if self._batch:
            self._hand_over()
        if self._behind is not None:
            self._behind.drain()

    def _take(self, batch: list[bytes]) -> None:
        """Write and hash; in a thread of its own where the file is large, while the next bytes come."""
        for part in _parts(batch):
            _write_all(self._descriptor, part)
            for chunk in part:
                self._hashes.update(chunk)
        if self._hashes.size - self._flushed >= _FLUSH:
            begin_writing(self._descriptor, self._flushed, self._hashes.size)
            self._flushed = self._hashes.size


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a plain file", os.fspath(path))
    return descriptor


def _parts(batch: list[bytes]) -> list[list[bytes]]:
    """Return `batch` in lists of at most `_WRITE` bytes, as far as its chunks allow."""
    parts: list[list[bytes]] = [[]]
    room = _WRITE
    for chunk in batch:
        if len(chunk) > room and parts[-1]:
            parts.append([])
            room = _WRITE
        parts[-1].append(chunk)
        room -= len(chunk)
    return parts


def _write_all(descriptor: int, chunks: list[bytes]) -> None:
    count = os.writev(descriptor, chunks)
    for chunk in chunks:
        rest = memoryview(chunk)[max(0, min(count, len(chunk))) :]
        count -= len(chunk)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
