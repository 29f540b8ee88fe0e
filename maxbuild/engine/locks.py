"""Locks: flock on a file, given back by the kernel when its holder dies.

They save work done twice; correctness never rests on them.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from pathlib import Path
from typing import Self

from maxbuild.engine import disk

_FIRST_WAIT = 0.01
_LONGEST_WAIT = 0.2
_UNSUPPORTED = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS})


class Lock:
    """A held lock. Leaving the `with` block removes the file and gives the lock back."""

    def __init__(self, path: Path, descriptor: int) -> None:
        """Take over an open `descriptor` of `path` that is locked."""
        self._path = path
        self._descriptor = descriptor

    def __enter__(self) -> Self:
        """Return the lock."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give the lock back."""
        self.release()

    def release(self) -> None:
        """Remove the file while it is still ours, then give the lock back."""
        try:
            disk.unlink(self._path)
        finally:
            os.close(self._descriptor)


def try_lock(path: Path) -> Lock | None:
    """Return the lock on `path`, or None where somebody else holds it.

    Where the file system has no locks, everybody gets one: the store stays right, only work may be done twice.
    """
    while True:
        descriptor = _open(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                os.close(descriptor)
                if isinstance(error, BlockingIOError):
                    return None
                raise disk.storage_error(error, "lock", path) from error
        if _is_still(path, descriptor):
            return Lock(path, descriptor)
        os.close(descriptor)  # the holder before us removed the file; the name is free or another file's


def wait_lock(path: Path, stop: threading.Event) -> Lock | None:
    """Wait for the lock on `path`; None when `stop` is set first.

    It asks again and again rather than sleep in the kernel, where a thread could not be told to stop.
    """
    wait = _FIRST_WAIT
    while not stop.is_set():
        lock = try_lock(path)
        if lock is not None:
            return lock
        stop.wait(wait)
        wait = min(2 * wait, _LONGEST_WAIT)
    return None


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, disk.PRIVATE_FILE)
    except OSError as error:
        raise disk.storage_error(error, "lock", path) from error


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
