"""A model of what a power cut leaves of a folder: what was not brought to the disk may be lost, cut or empty.

It records a build as moments, one after each disk effect, with every fsync that really took place. Of the state at a
moment, a `Fate` chooses what survives:

- the names in a folder as they were at its last fsync, and of later changes, for each name by itself, any first few;
- the bytes of a file as they were at its last fsync, or later, or a mixture; never synced: cut, zeros, nothing;
- of the index the rows of any earlier moment: SQLite in WAL mode loses the last transactions, and never half of one;
- the stat tuple of a file as it was: file systems write down times at other moments than bytes.

That is more than a journaling file system would lose. Not modelled: a disk that loses what it said it has.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from maxbuild.engine import disk
from maxbuild.engine.memo import Stamp

Version = TypeVar("Version")
ROOT = 0
"""The number of the recorded folder itself; files and folders are numbered as they are seen."""
_INDEX_FILES = "cache.db"
_WAY_TO_THE_INDEX = ("store", "store/v1", "store/v1/index")
"""Folders that survive in any case: rows without what they speak of are the worst that can be left."""


class Fate(Protocol):
    """Chooses what survives, by number: 0 is what was brought to the disk, the last is what was there."""

    def name(self, count: int) -> int:
        """Return which of `count` states a name is in."""

    def content(self, count: int) -> int:
        """Return which of `count` contents a file has."""

    def index(self, count: int) -> int:
        """Return as of which of `count` moments the index is."""


@dataclass(frozen=True)
class Always:
    """Chooses the same everywhere: a share of 0 is what is oldest, 1 what is newest."""

    names: float
    contents: float
    rows: float

    def name(self, count: int) -> int:
        """Choose for a name."""
        return round(self.names * (count - 1))

    def content(self, count: int) -> int:
        """Choose for a file."""
        return round(self.contents * (count - 1))

    def index(self, count: int) -> int:
        """Choose for the index."""
        return round(self.rows * (count - 1))


@dataclass(frozen=True)
class Drawn:
    """Chooses by a function that draws a number below another."""

    below: Callable[[int], int]

    def name(self, count: int) -> int:
        """Choose for a name."""
        return self.below(count)

    def content(self, count: int) -> int:
        """Choose for a file."""
        return self.below(count)

    def index(self, count: int) -> int:
        """Choose for the index: the newest rows are the most dangerous ones."""
        return count - 1 - self.below(count)


@dataclass(frozen=True, slots=True)
class Moment:
    """The folder after one effect; `synced` are the files and folders for which fsync was called since the last."""

    effect: str
    names: Mapping[int, Mapping[str, int]]
    contents: Mapping[int, bytes]
    stamps: Mapping[int, Stamp]
    modes: Mapping[int, int]
    synced: frozenset[int]
    index: Mapping[str, bytes]


@dataclass
class Recorder:
    """Takes down what happens to `folder`; what is there at first is on the disk."""

    folder: Path
    moments: list[Moment] = field(default_factory=list)
    _numbers: dict[tuple[int, int], int] = field(default_factory=dict)
    _last: int = ROOT
    _synced: set[tuple[int, int]] = field(default_factory=set)
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record while the context lasts."""
        fsync, disk.after_effect, os.fsync = os.fsync, self.note, self._sync
        try:
            if not self.moments:
                self.note("begin", self.folder)
            yield
        finally:
            disk.after_effect, os.fsync = None, fsync

    def note(self, effect: str, path: Path) -> None:
        """Take down the state after `effect` on `path`."""
        with self._mutex:
            moment = self._look(f"{effect} {os.path.relpath(path, self.folder)}")
            self.moments.append(moment)

    def _sync(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        with self._mutex:
            self._synced.add((status.st_dev, status.st_ino))

    def _look(self, effect: str) -> Moment:
        moment = Moment(effect, {}, {}, {}, {}, frozenset(), {})
        numbers = {_identity(self.folder): ROOT}
        self._look_into(self.folder, moment, numbers)
        synced = frozenset(numbers[identity] for identity in self._synced & numbers.keys())
        self._numbers, self._synced = numbers, set()
        return Moment(effect, moment.names, moment.contents, moment.stamps, moment.modes, synced, moment.index)

    def _look_into(self, folder: Path, moment: Moment, numbers: dict[tuple[int, int], int]) -> None:
        names: dict[str, int] = {}
        moment.names[numbers[_identity(folder)]] = names  # type: ignore[index]
        for path in sorted(folder.iterdir()):
            if path.name.startswith(_INDEX_FILES):
                if not path.name.endswith("-shm"):  # made anew by whoever opens the database first
                    moment.index[path.name] = path.read_bytes()  # type: ignore[index]
                continue
            number = names[path.name] = self._number(_identity(path), numbers)
            if path.is_dir():
                self._look_into(path, moment, numbers)
            else:
                moment.contents[number] = path.read_bytes()  # type: ignore[index]
                moment.stamps[number] = Stamp.of(path)  # type: ignore[index]
                moment.modes[number] = path.stat().st_mode & 0o777  # type: ignore[index]

    def _number(self, identity: tuple[int, int], numbers: dict[tuple[int, int], int]) -> int:
        """Return the number of a file: the one it had a moment ago, else a new one, as inodes are used again."""
        if identity not in numbers:
            if identity not in self._numbers:
                self._last += 1
            numbers[identity] = self._numbers.get(identity, self._last)
        return numbers[identity]


def _identity(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_dev, status.st_ino


@dataclass(repr=False)
class Ruin:
    """What a power cut after the last of `moments` left, by the choices of `fate`."""

    moments: Sequence[Moment]
    fate: Fate
    contents: dict[int, bytes] = field(default_factory=dict)
    tree: dict[str, int] = field(default_factory=dict)
    """Files that survived, by path, and folders, by a path that ends in a slash."""
    index: Mapping[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Choose everything."""
        self._survive(ROOT, "")
        self.index = self.moments[self.fate.index(len(self.moments))].index

    def __repr__(self) -> str:
        """Return what a failing test shows."""
        files = {path: self.contents.get(number, b"")[:40] for path, number in self.tree.items()}
        return f"power cut after {self.moments[-1].effect}, left {files}, index {[*self.index]}"

    def state(self) -> object:
        """Return a value that is equal for equal ruins."""
        return (
            frozenset((path, self.contents.get(number)) for path, number in self.tree.items()),
            frozenset(self.index.items()),
        )

    def materialise(self, folder: Path) -> Mapping[Stamp, Stamp]:
        """Make `folder` what was left; return for new stat tuples of files the ones they had."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        made: dict[int, Path] = {}
        for path, number in self.tree.items():
            place = folder / path
            if path.endswith("/"):
                place.mkdir(mode=0o700)
            elif number in made:
                os.link(made[number], place)
            else:
                place.write_bytes(self.contents[number])
                made[number] = place
        index = folder / "store" / "v1" / "index"
        if index.is_dir():
            for name, content in self.index.items():
                (index / name).write_bytes(content)
        return {forged: was for number, place in made.items() for forged, was in self._forge(number, place)}

    def _forge(self, number: int, place: Path) -> Iterator[tuple[Stamp, Stamp]]:
        last = next(moment for moment in reversed(self.moments) if number in moment.contents)
        place.chmod(last.modes[number])
        if last.stamps[number].size == len(self.contents[number]):  # else nobody would take the one for the other
            yield Stamp.of(place), last.stamps[number]

    def _survive(self, folder: int, path: str) -> None:
        listings = [moment.names.get(folder, {}) for moment in self._since_synced(folder)]
        if not self._was_synced(folder):
            listings.insert(0, {})
        for name in sorted({name for listing in listings for name in listing}):
            versions = _changes([listing.get(name) for listing in listings])
            if path + name in _WAY_TO_THE_INDEX:
                versions = versions[-1:]
            number = versions[self.fate.name(len(versions)) if len(versions) > 1 else 0]
            if number is not None:
                self._survive_as(number, path + name)

    def _survive_as(self, number: int, path: str) -> None:
        if any(number in moment.names for moment in self.moments):
            self.tree[f"{path}/"] = number
            self._survive(number, f"{path}/")
            return
        self.tree[path] = number
        if number not in self.contents:
            candidates = self._candidates(number)
            self.contents[number] = candidates[self.fate.content(len(candidates)) if len(candidates) > 1 else 0]

    def _candidates(self, number: int) -> list[bytes]:
        """Return what file `number` may hold, from what is on the disk to what was there."""
        versions = _changes([m.contents[number] for m in self._since_synced(number) if number in m.contents])
        newest = versions[-1]
        half = len(newest) // 2
        if not self._was_synced(number):
            return [*dict.fromkeys([b"", bytes(len(newest)), newest[:half], *versions])]
        if len(versions) == 1:
            return versions
        return [*dict.fromkeys([versions[0], newest[:half] + versions[0][half:], *versions[1:]])]

    def _was_synced(self, number: int) -> bool:
        return self._last_sync(number) is not None

    def _since_synced(self, number: int) -> Sequence[Moment]:
        return self.moments[self._last_sync(number) or 0 :]

    def _last_sync(self, number: int) -> int | None:
        for place in range(len(self.moments) - 1, -1, -1):
            moment = self.moments[place]
            if number in moment.synced or (place == 0 and (number in moment.names or number in moment.contents)):
                return place
        return None


def _changes(versions: Sequence[Version]) -> list[Version]:
    """Return `versions` without those that are as the one before."""
    return [value for place, value in enumerate(versions) if place == 0 or value != versions[place - 1]]


@contextmanager
def forged(stamps: Mapping[Stamp, Stamp]) -> Iterator[None]:
    """Let files have the stat tuples they had before the power cut, as long as nobody touches them."""
    real = Stamp.__dict__["of"]
    Stamp.of = classmethod(lambda cls, path: stamps.get(now := real.__func__(cls, path), now))  # type: ignore[method-assign]
    try:
        yield
    finally:
        Stamp.of = real  # type: ignore[method-assign]
