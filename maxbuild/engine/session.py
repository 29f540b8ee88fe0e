"""Sessions: one process's presence in a store, its scratch folder, and its claims on results and content.

A session is a folder under `scratch/` and a lock on a file of its name, which the kernel gives back when the process
dies; so who is alive is known without asking a clock. What a session has claimed, a collector does not take.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Self

from maxbuild.engine import disk
from maxbuild.engine.digest import Digest, TaskKey
from maxbuild.engine.locks import Lock, try_lock, wait_lock

_CLAIMS = "claims"
_SUFFIX = ".scratch"
_CONTENT = "content "


class Claims(NamedTuple):
    """How many sessions live, and what they rely on: results by key, and content that no result may name yet."""

    living: int
    results: frozenset[TaskKey]
    contents: frozenset[Digest]


class Session:
    """The presence of this process, from `begin` to `end`."""

    def __init__(self, folder: Path, lock: Lock) -> None:
        """Take over an empty `folder` and the `lock` that says its owner lives."""
        self.folder = folder
        self._lock = lock
        self._claimed: set[str] = set()

    @classmethod
    def begin(cls, base: Path) -> Self:
        """Begin a session in the store at `base`, after sweeping what the dead left."""
        sweep(base)
        name = os.urandom(8).hex()
        lock = wait_lock(_lock_of(base, name), threading.Event())  # another's sweep may hold it for a moment
        if lock is None:
            raise AssertionError("nobody stops this wait")
        folder = base / "scratch" / name
        try:
            disk.make_directory(folder)
        except BaseException:
            lock.release()
            raise
        return cls(folder, lock)

    def claim(self, names: Iterable[TaskKey | Digest]) -> None:
        """Note that this process relies on results, by their keys, and on content, by its digests."""
        lines = [f"{_CONTENT}{name}\n" if isinstance(name, Digest) else f"{name}\n" for name in names]
        fresh = [line for line in dict.fromkeys(lines) if line not in self._claimed]
        if fresh:
            disk.append(self.folder / _CLAIMS, "".join(fresh).encode())
            self._claimed.update(fresh)

    def end(self) -> None:
        """Remove the folder and say that nobody is here any more."""
        try:
            disk.remove_tree(self.folder)
        finally:
            self._lock.release()


def claims_of_the_living(base: Path) -> Claims:
    """Return how many sessions live in the store at `base`, and what they have claimed."""
    dead = set(folders_of_the_dead(base))
    living = [folder for folder in _folders(base) if folder not in dead]
    names = [name for folder in living for name in _read_claims(folder / _CLAIMS)]
    return Claims(
        len(living),
        frozenset(name for name in names if isinstance(name, TaskKey)),
        frozenset(name for name in names if isinstance(name, Digest)),
    )


def folders_of_the_dead(base: Path) -> list[Path]:
    """Return the scratch folders whose owners died. Without locks nobody can tell: better to take all for alive."""
    dead = []
    for folder in _folders(base):
        lock = try_lock(_lock_of(base, folder.name))
        if lock is not None:
            if lock.sure:
                dead.append(folder)
            lock.release()
    return dead


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


def _read_claims(path: Path) -> Iterator[TaskKey | Digest]:
    try:
        lines = path.read_text(encoding="ascii", errors="replace").split("\n")
    except OSError:
        return
    for line in lines[:-1]:  # what follows the last newline is being written
        try:
            yield Digest(line.removeprefix(_CONTENT)) if line.startswith(_CONTENT) else TaskKey(line)
        except ValueError:
            continue
