"""Sessions: one process's presence in a store, its scratch folder, and its claims on results.

A session is a folder under `scratch/` and a lock on a file of its name, which the kernel gives back when the process
dies; so who is alive is known without asking a clock. What a session has claimed, a collector does not take.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Self

from maxbuild.engine import disk
from maxbuild.engine.digest import TaskKey
from maxbuild.engine.locks import Lock, try_lock, wait_lock

_CLAIMS = "claims"
_SUFFIX = ".scratch"


class Session:
    """The presence of this process, from `begin` to `end`."""

    def __init__(self, folder: Path, lock: Lock) -> None:
        """Take over an empty `folder` and the `lock` that says its owner lives."""
        self.folder = folder
        self._lock = lock
        self._claimed: set[TaskKey] = set()

    @classmethod
    def begin(cls, base: Path) -> Self:
        """Begin a session in the store at `base`, after sweeping what the dead left."""
        sweep(base)
        name = secrets.token_hex(8)
        lock = wait_lock(_lock_of(base, name), threading.Event())  # another's sweep may hold it for a moment
        if lock is None:
            raise AssertionError("nobody stops this wait")
        folder = base / "scratch" / name
        disk.make_directory(folder)
        return cls(folder, lock)

    def claim(self, keys: Iterable[TaskKey]) -> None:
        """Note that this process relies on the results under `keys`."""
        fresh = [key for key in dict.fromkeys(keys) if key not in self._claimed]
        if fresh:
            disk.append(self.folder / _CLAIMS, "".join(f"{key}\n" for key in fresh).encode())
            self._claimed.update(fresh)

    def end(self) -> None:
        """Remove the folder and say that nobody is here any more."""
        disk.remove_tree(self.folder)
        self._lock.release()


def claims_of_the_living(base: Path) -> tuple[int, set[TaskKey]]:
    """Return how many sessions live in the store at `base`, and the keys they have claimed."""
    living = 0
    keys: set[TaskKey] = set()
    for folder in _folders(base):
        lock = try_lock(_lock_of(base, folder.name))
        if lock is not None and lock.sure:
            lock.release()
            continue
        if lock is not None:
            lock.release()  # without locks nobody can tell: better to take it for alive
        living += 1
        keys.update(_read_claims(folder / _CLAIMS))
    return living, keys


def sweep(base: Path) -> None:
    """Remove what processes left that died: nobody holds their locks any more."""
    for folder in _folders(base):
        lock = try_lock(_lock_of(base, folder.name))
        if lock is not None:
            with lock:
                if lock.sure:
                    disk.remove_tree(folder)
    for path in _iterate(base / "locks"):
        lock = try_lock(path)
        if lock is not None:
            lock.release()


def _lock_of(base: Path, name: str) -> Path:
    return base / "locks" / f"{name}{_SUFFIX}"


def _folders(base: Path) -> Collection[Path]:
    return [path for path in _iterate(base / "scratch") if path.is_dir() and not path.is_symlink()]


def _iterate(folder: Path) -> Iterator[Path]:
    try:
        yield from list(folder.iterdir())
    except FileNotFoundError:
        return


def _read_claims(path: Path) -> Iterator[TaskKey]:
    try:
        lines = path.read_text(encoding="ascii", errors="replace").split("\n")
    except OSError:
        return
    for line in lines[:-1]:  # what follows the last newline is being written
        try:
            yield TaskKey(line)
        except ValueError:
            continue
