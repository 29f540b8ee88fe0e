"""Locks: flock on a file, given back by the kernel when its holder dies.

They save work done twice; correctness never rests on them. Where the file system has no locks, everybody gets
one at once, and `Lock.sure` says so to whoever would take a lock for proof that nobody else is there.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self

from maxbuild.engine import disk
from maxbuild.engine.cancelled import Cancelled
from maxbuild.engine.holder import Holder, note, read_holder
from maxbuild.errors import StoreError

_FIRST_WAIT = 0.01
_LONGEST_WAIT = 0.2
_PATIENCE = 5.0
_UNSUPPORTED = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS})


class Lock:
    """A held lock. Leaving the `with` block removes the file, unless it is `lasting`, and gives the lock back.

    `sure` is False where the file system has no locks: then others may hold it too.
    """

    def __init__(self, path: Path, descriptor: int, *, sure: bool = True, lasting: bool = False) -> None:
        """Take over an open `descriptor` of `path` that is locked."""
        self.sure = sure
        self._path = path
        self._descriptor = descriptor
        self._lasting = lasting
        _held.add(self)

    def __enter__(self) -> Self:
        """Return the lock."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give the lock back."""
        self.release()

    def release(self) -> None:
        """Remove the file while it is still ours, then give the lock back; nothing happens a second time."""
        if self not in _held:  # released, or this is a forked child, whose parent goes on to hold it
            return
        _held.discard(self)
        try:
            if self._lasting:
                with suppress(OSError):
                    fcntl.flock(self._descriptor, fcntl.LOCK_UN)  # a copy of the descriptor elsewhere must not keep it
            else:
                disk.unlink(self._path)
        finally:
            os.close(self._descriptor)

    def sign(self) -> None:
        """Write into the file who holds the lock; StoreError, and no lock, when that cannot be written."""
        try:
            disk.sign_lock(self._path, self._descriptor, note())
        except BaseException:
            self.release()
            raise

    def forget(self) -> None:
        """Close the descriptor and nothing else: in a forked child, the lock is its parent's."""
        os.close(self._descriptor)


_held: set[Lock] = set()


def _forget_all() -> None:
    """Close the locks a child was forked with: a copied descriptor would keep a lock after its holder was killed."""
    while _held:
        _held.pop().forget()


os.register_at_fork(after_in_child=_forget_all)


def try_lock(path: Path) -> Lock | None:
    """Return the lock on `path`, or None where somebody else holds it."""
    return _try(path, fcntl.LOCK_EX)


def wait_lock(
    path: Path,
    stop: threading.Event,
    on_wait: Callable[[Holder], None] | None = None,
    patience: float = _PATIENCE,
) -> Lock | None:
    """Wait for the lock on `path` and sign it; None when `stop` is set first.

    After `patience` seconds, `on_wait` is told who holds it, and again whenever that is another process, or is stopped
    or woken up. It is called in this thread, between two tries.
    """
    patient_until = time.monotonic() + patience
    told: Holder | None = None

    def attempt() -> Lock | None:
        nonlocal told
        lock = try_lock(path)
        if lock is None and on_wait is not None and time.monotonic() >= patient_until:
            holder = read_holder(path)
            if holder is not None and holder != told:
                told = holder
                on_wait(holder)
        return lock

    lock = _poll(attempt, stop)
    if lock is not None:
        lock.sign()
    return lock


class Gate:
    """A door that many may pass together, or one alone. It stands on two permanent files, `path` and `path.turn`.

    Who wants to be alone takes the turn first, and nobody passes while it is taken. So the many drain away, however
    often they come. A thread that is inside already passes again at once: it would wait for itself otherwise.
    """

    def __init__(self, path: Path) -> None:
        """Use the files `path` and `path.turn`, which are made where missing."""
        self._path = path
        self._turn = path.with_name(f"{path.name}.turn")
        self._threads = threading.local()

    @contextmanager
    def shared(self, stop: threading.Event | None = None) -> Iterator[None]:
        """Be inside with others; Cancelled when `stop` is set first. Who may not write to the store passes unseen."""
        if self._is_inside():
            yield
            return
        with ExitStack() as held:
            try:
                _wait(self._turn, fcntl.LOCK_SH, stop).release()
                held.enter_context(_wait(self._path, fcntl.LOCK_SH, stop))
            except StoreError:
                if os.access(self._path.parent, os.W_OK):
                    raise
            with self._entered():
                yield

    @contextmanager
    def exclusive(self, stop: threading.Event | None = None) -> Iterator[None]:
        """Be inside alone; Cancelled when `stop` is set first. StoreError for who may not write to the store."""
        if self._is_inside():
            raise AssertionError("who is inside already cannot ask to be alone")
        with _wait(self._turn, fcntl.LOCK_EX, stop), _wait(self._path, fcntl.LOCK_EX, stop), self._entered():
            yield

    def _is_inside(self) -> bool:
        return getattr(self._threads, "inside", False)

    @contextmanager
    def _entered(self) -> Iterator[None]:
        self._threads.inside = True
        try:
            yield
        finally:
            self._threads.inside = False


def _wait(path: Path, mode: int, stop: threading.Event | None) -> Lock:
    lock = _poll(lambda: _try(path, mode, lasting=True), stop or threading.Event())
    if lock is None:
        raise Cancelled
    return lock


def _poll(attempt: Callable[[], Lock | None], stop: threading.Event) -> Lock | None:
    """Ask again and again rather than sleep in the kernel, where a thread could not be told to stop."""
    wait = _FIRST_WAIT
    while not stop.is_set():
        lock = attempt()
        if lock is not None:
            return lock
        stop.wait(wait)
        wait = min(2 * wait, _LONGEST_WAIT)
    return None


def _try(path: Path, mode: int, *, lasting: bool = False) -> Lock | None:
    while True:
        descriptor, sure = _open(path), True
        try:
            fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                os.close(descriptor)
                if isinstance(error, BlockingIOError):
                    return None
                raise disk.storage_error(error, "lock", path) from error
            sure = False
        if _is_still(path, descriptor):
            return Lock(path, descriptor, sure=sure, lasting=lasting)
        os.close(descriptor)  # the holder before us removed the file; the name is free or another file's


def _open(path: Path) -> int:
    """Open the lock file, made where missing. What is no file of ours in its place is removed: it can hold nothing."""
    for _ in range(2):
        descriptor = disk.open_lock(path)
        if descriptor is not None:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                return descriptor
            os.close(descriptor)
        if path.is_dir() and not path.is_symlink():
            disk.remove_tree(path)
        else:
            disk.unlink(path)
    raise disk.storage_error(OSError(errno.EEXIST, "something that is no lock is in its place"), "lock", path)


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
