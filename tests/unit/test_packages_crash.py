"""Placing packages and writing locks, killed, cut off from power or out of space at any effect: old or new."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from children import in_child, spared_disk
from power_cut import Always, Fate, Moment, Recorder, Ruin
from watch import Watch

from maxbuild.engine import Result, Store, disk
from maxbuild.engine.graph import TaskGraph
from maxbuild.errors import StoreError, UsageError
from maxbuild.lock import Lock, LockedFile, LockedRepository, read_lock, write_lock
from maxbuild.packages import place_packages
from maxbuild.runtime.package import ComponentEntry, FileEntry, PackageHeader

__all__ = ["spared_disk"]
Content = Mapping[str, bytes]
OLD = {"regions/a.pt2": b"old region", "weights/w": b"same", "old.json": b"{}"}
NEW = {"regions/a.pt2": b"new region", "weights/w": b"same", "tokenizer/new.json": b"[]"}


class Shop:
    """A store with two packages of one name in it, and the folder to place them in."""

    def __init__(self, folder: Path) -> None:
        """Publish both packages in `folder`; small files of the model's own folder are among their parts."""
        self.folder = folder
        self.model = folder / "model"
        self.model.mkdir(parents=True)
        with Store(self.store) as store:
            self._headers = [self._publish(store, content) for content in (OLD, NEW)]
            paths = [store.blob_path(header) for header in self._headers]
        whole = [path.read_bytes() for path in paths if path]
        self.old, self.new = (
            {**parts, "package.json": header} for parts, header in zip((OLD, NEW), whole, strict=True)
        )

    @property
    def store(self) -> Path:
        """Return the root of the store."""
        return self.folder / "store"

    @property
    def package(self) -> Path:
        """Return where the package belongs."""
        return self.folder / "out" / "demo" / "cpu-x86-64-v3"

    def place(self, number: int) -> None:
        """Place the old package (0) or the new one (1)."""
        plan = SimpleNamespace(
            manifest=SimpleNamespace(name="demo"), package_tasks=lambda: {"cpu:x86-64-v3": "package"}
        )
        results = {"package": Result({"package": self._headers[number]})}
        report: Any = SimpleNamespace(results=results, tasks=(), task_graph=TaskGraph())
        with Store(self.store) as store:
            place_packages(plan, report, store, self.folder / "out")  # type: ignore[arg-type]

    def placed(self) -> Content | None:
        """Return the files that lie where the package belongs; None where there is nothing."""
        if not self.package.exists():
            return None
        files = (path for path in self.package.rglob("*") if path.is_file())
        return {path.relative_to(self.package).as_posix(): path.read_bytes() for path in files}

    def beside(self) -> list[str]:
        """Return what lies beside the package."""
        return [path.name for path in self.package.parent.iterdir() if path != self.package]

    def _publish(self, store: Store, contents: Content) -> Any:
        files = {}
        for path, content in contents.items():
            own = self.model / path.replace("/", "-")
            if path.endswith(".json"):
                own.write_bytes(content)
            digest = store.adopt(own) if path.endswith(".json") else store.publish_bytes(content)
            files[path] = FileEntry(digest, len(content))
        first = next(iter(files))
        header = PackageHeader(
            "demo", "cpu:x86-64-v3", {"main": ComponentEntry(first, first, {}, {}, None)}, None, {}, files
        )
        return store.publish_bytes(json.dumps(header.to_json()).encode())


def killed_at_every_effect(
    prepare: Callable[[Path], Any], work: Callable[[Any], object], folder: Path
) -> Iterator[Any]:
    """Kill `work`, on what `prepare` makes in a folder, before and after each effect; yield what was prepared."""
    for moment in ("before", "after"):
        for number in range(1000):
            prepared = prepare(folder / f"{moment}-{number}")
            ended = in_child(
                lambda prepared=prepared, moment=moment, number=number: _die(moment, number, work, prepared)
            )  # type: ignore[misc]
            if ended.status == 0:
                break
            assert ended.status == -signal.SIGKILL
            yield prepared


def _die(moment: str, countdown: int, work: Callable[[Any], object], prepared: Any) -> None:
    def die(_name: str, _path: Path) -> None:
        nonlocal countdown
        countdown -= 1
        if countdown < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    setattr(disk, f"{moment}_effect", die)
    work(prepared)


def with_old(folder: Path) -> Shop:
    """Return a shop in which the old package is placed."""
    shop = Shop(folder)
    shop.place(0)
    return shop


@pytest.mark.parametrize("prepare", [Shop, with_old])
def test_a_placing_killed_at_any_effect_leaves_old_or_new(prepare: Callable[[Path], Shop], tmp_path: Path) -> None:
    """After SIGKILL the package is what it was or what it is to be, and the next placing tidies up."""
    seen = []
    for shop in killed_at_every_effect(prepare, lambda shop: shop.place(1), tmp_path):
        seen.append(shop.placed())
        assert seen[-1] in ((shop.old if prepare is with_old else None), shop.new)
        shop.place(1)
        assert shop.placed() == shop.new
        assert shop.beside() == []
    assert len(seen) > 30
    assert seen[0] != seen[-1]


def test_a_placing_on_a_full_disk_leaves_old_or_new(tmp_path: Path) -> None:
    """Whichever effect finds the disk full, one StoreError names path and room, and the next placing is right."""
    told = 0
    for number in range(1000):
        shop = with_old(tmp_path / str(number))
        left = [number]

        def fail(_name: str, _path: Path, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] == -1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        disk.before_effect = fail
        error = error_of(shop)
        disk.before_effect = None
        if error is not None:
            told += 1
            assert error.exit_code == 4
            assert str(shop.folder) in str(error)
            assert "bytes are free there" in error.causes[-1]
        if left[0] >= 0:
            break
        assert shop.placed() in (shop.old, shop.new)
        shop.place(1)
        assert shop.placed() == shop.new
        assert shop.beside() == []
    assert told > 15


def error_of(shop: Shop) -> StoreError | None:
    """Place the new package and return the error that this ended with, None where all went well."""
    try:
        shop.place(1)
    except StoreError as error:
        return error
    return None


FATES = {
    "what was not synced is lost": Always(names=0, contents=0, rows=1),
    "names are kept, files are empty": Always(names=1, contents=0, rows=1),
    "names are kept, files are cut": Always(names=1, contents=0.5, rows=1),
}


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> tuple[Shop, list[Moment]]:
    """Record how the new package takes the place of the old one."""
    shop = with_old(tmp_path_factory.mktemp("power") / "disk")
    recorder = Recorder(shop.folder)
    with recorder.recording():
        shop.place(1)
    return shop, recorder.moments


@pytest.mark.parametrize("fate", FATES.values(), ids=[*FATES])
def test_a_placing_cut_off_from_power_leaves_old_or_new(fate: Fate, record: tuple[Shop, list[Moment]]) -> None:
    """A package has its place only when all of it is on the disk."""
    shop, moments = record
    seen = []
    for last in range(1, len(moments) + 1):
        ruin = Ruin(moments[:last], fate)
        ruin.materialise(shop.folder)
        seen.append(shop.placed())
        assert seen[-1] in (shop.old, shop.new), ruin
    assert seen[0] == shop.old
    assert seen[-1] == shop.new


def lock_of(number: int) -> Lock:
    """Return one of two locks."""
    file = LockedFile("config.json", 1, str(number) * 64, None)
    return Lock.of([LockedRepository("organization/name", "main", str(number) * 40, (file,))])


def with_lock(folder: Path) -> Path:
    """Return the path of a lock that is written."""
    folder.mkdir()
    write_lock(folder / "demo.lock", lock_of(0))
    return folder / "demo.lock"


def test_a_lock_killed_at_any_effect_is_old_or_new(tmp_path: Path) -> None:
    """After SIGKILL the lock can be read: it is the one before or the one after."""
    seen = []
    for path in killed_at_every_effect(with_lock, lambda path: write_lock(path, lock_of(1)), tmp_path):
        seen.append(read_lock(path))
        assert seen[-1] in (lock_of(0), lock_of(1))
        write_lock(path, lock_of(1))
        assert read_lock(path) == lock_of(1)
    assert {lock == lock_of(1) for lock in seen} == {True, False}


@pytest.mark.parametrize("fate", FATES.values(), ids=[*FATES])
def test_a_lock_cut_off_from_power_is_old_or_new(fate: Fate, tmp_path: Path) -> None:
    """The lock has its name only when its bytes are on the disk."""
    path = with_lock(tmp_path / "disk")
    recorder = Recorder(path.parent)
    with recorder.recording():
        write_lock(path, lock_of(1))
    for last in range(1, len(recorder.moments) + 1):
        Ruin(recorder.moments[:last], fate).materialise(path.parent)
        assert read_lock(path) in (lock_of(0), lock_of(1))
    assert read_lock(path) == lock_of(1)


def test_a_lock_on_a_full_disk_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One StoreError names the lock, and what is free; nothing is left beside it."""
    path = with_lock(tmp_path / "disk")

    def fail(name: str, _path: Path) -> None:
        if name == "write":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(disk, "before_effect", fail)
    with pytest.raises(StoreError, match="could not write the lock") as caught:
        write_lock(path, lock_of(1))
    assert str(path) in caught.value.message
    assert "bytes are free there" in caught.value.causes[-1]
    assert read_lock(path) == lock_of(0)
    assert [*path.parent.iterdir()] == [path]


def test_a_lock_cut_at_any_byte_is_refused_by_name(tmp_path: Path) -> None:
    """Whoever cut a lock short is told so; never a traceback, never half of a lock."""
    path = with_lock(tmp_path / "disk")
    content = path.read_bytes()
    for length in range(len(content) - 1):  # without its last newline it says the same
        path.write_bytes(content[:length])
        with pytest.raises(UsageError, match="cannot use the lock"):
            read_lock(path)


def test_all_effects_go_through_one_module(tmp_path: Path) -> None:
    """Placing a package and writing a lock change nothing that engine/disk has not announced."""
    shop = Shop(tmp_path / "shop")
    path = with_lock(tmp_path / "locks")

    def work() -> list[str]:
        unannounced: list[str] = []
        Watch(unannounced.append, lambda _: False)
        shop.place(0)
        shop.place(1)
        write_lock(path, lock_of(1))
        return unannounced

    assert in_child(work).answer == []
