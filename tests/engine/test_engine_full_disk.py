"""Full disks, limits, and stores that may not be written: one message, nothing lost, what can be read is read (G8)."""

from __future__ import annotations

import errno
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from children import drop_capabilities, in_child, mount_tmpfs, remount, spared_disk
from conftest import ToyPlan, states
from crashes import WORDS, Clean, Place, clean, crash_tasks
from toys import KINDS

from maxbuild.engine import State, Store, disk, execute
from maxbuild.errors import StoreError

__all__ = ["clean", "spared_disk"]
ROOM = re.compile(r"needs [0-9]+ bytes, [0-9]+ bytes (but no inodes )?are free there")
ROOM_FOR_A_STEP = re.compile(r"[0-9]+ bytes (but no inodes )?are free there")
MUCH = WORDS + " " * 400_000


# Every effect


@contextmanager
def failing(code: int, fails: Callable[[int, str], bool]) -> Iterator[list[tuple[str, Path]]]:
    """Let those effects fail with `code` of which `fails` says so by number and name; gives the list of them."""
    failed: list[tuple[str, Path]] = []
    count = 0

    def fail(name: str, path: Path) -> None:
        nonlocal count
        count += 1
        if fails(count - 1, name):
            failed.append((name, path))
            raise OSError(code, os.strerror(code))

    disk.before_effect = fail
    try:
        yield failed
    finally:
        disk.before_effect = None


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_every_failing_effect_is_one_store_error_and_loses_nothing(clean: Clean, tmp_path: Path, code: int) -> None:
    """Whichever effect fails, one StoreError names its path, need and what is free, and the next build is right."""
    failures = 0
    for number in range(1000):
        place = Place(tmp_path / str(number)).prepare()
        with failing(code, lambda count, _, number=number: count == number) as failed:  # type: ignore[misc]
            error = error_of(place)
        if not failed:
            break
        ((name, path),) = failed
        if error is None:
            assert is_spared(name, path, place) or (code == errno.EACCES and path.name.startswith("gate"))
        else:
            failures += 1
            assert error.exit_code == 4
            assert error.message == f"could not {name} `{path}`"
            assert error.causes[0] == os.strerror(code)
            assert len(error.causes) == (1 if code == errno.EACCES else 2)
            assert code == errno.EACCES or ROOM.fullmatch(error.causes[1])
        clean.next_build_is_right(place)
    assert failures > 60


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_disk_quota_and_limit_are_told_alike(code: int, tmp_path: Path) -> None:
    """Whatever stands in the way of more bytes, need and room are told, and a hint fits the cause."""
    error = disk.storage_error(OSError(code, os.strerror(code)), "write", tmp_path / "f", 5)
    assert ROOM.fullmatch(error.causes[1])
    assert ("ulimit" in (error.hint or "")) == (code == errno.EFBIG)


def test_a_disk_that_stays_full_is_one_store_error(clean: Clean, tmp_path: Path) -> None:
    """Where everything fails from some effect on but removing, there is still one message, about the first failure."""
    for number in range(0, 1000, 3):
        place = Place(tmp_path / str(number)).prepare()
        with failing(errno.ENOSPC, lambda count, name, first=number: count >= first and name != "remove") as failed:  # type: ignore[misc]
            error = error_of(place)
        if not failed:
            break
        if error is not None:
            assert error.exit_code == 4
            assert error.causes[0] == os.strerror(errno.ENOSPC)
            said = [f"could not {name} `{path}`" for name, path in failed].index(error.message)
            assert all(is_spared(*pair, place) for pair in failed[:said])
        clean.next_build_is_right(place)
    assert number > 60


def is_spared(name: str, path: Path, place: Place) -> bool:
    """Return whether a build goes on without it: a note in a lock, the journal, a source that is not remembered."""
    return name == "sign" or (name, path) == ("sync", place.words) or path.parent.name == "runs"


def error_of(place: Place) -> StoreError | None:
    """Build and return the error that ended it, None where all went well."""
    try:
        place.build()
    except StoreError as error:
        return error
    return None


# Limits and disks that are real


def tells_path_need_and_room(answer: dict[str, Any], folder: Path) -> str:
    """Check what a child said of a full disk; return what it could not do."""
    error = answer["error"]
    assert error["class"] == "StoreError"
    doing, path = re.fullmatch(r"could not (.*) `(.*)`", error["message"]).groups()  # type: ignore[union-attr]
    assert Path(path).is_relative_to(folder)
    assert len(error["causes"]) == 2, error
    assert (ROOM_FOR_A_STEP if doing == "write in" else ROOM).fullmatch(error["causes"][1]), error
    assert error["hint"]
    return str(doing)


def test_a_limit_on_file_sizes_is_told_as_a_full_disk(clean_of_much: Clean, tmp_path: Path) -> None:
    """RLIMIT_FSIZE, under steps, blobs and SQLite: one message, and without the limit the next build is right."""
    done = set()
    for limit in (0, 1, 100, 4096, 4097, 20_000, 33_000, 40_000, 80_000, 160_000, 240_000, 320_000, 10**7):
        place = Place(tmp_path / str(limit)).prepare(MUCH)

        def work(place: Place = place, limit: int = limit) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            place.build()

        ended = in_child(work)
        if ended.status:
            assert ended.status == 4
            done.add(tells_path_need_and_room(ended.answer, place.folder))
        clean_of_much.next_build_is_right(place)
    assert ended.status == 0
    assert {"write in", "write to index"} <= done


@pytest.fixture
def clean_of_much(clean: Clean, tmp_path: Path) -> Clean:
    """Return what a clean build leaves whose outputs are much larger than the rows that name them."""
    return Clean.of(Place(tmp_path / "clean of much").prepare(MUCH), clean.ledger)


def test_a_small_disk_fails_with_one_message_and_goes_on_when_there_is_room(
    clean_of_much: Clean, tmp_path: Path
) -> None:
    """A real tmpfs, full from any point on: one message, and when space is freed the next build is right."""

    def work() -> list[Any]:
        mount_tmpfs(tmp_path, "size=16m")
        said = []
        for room in range(0, 1600 << 10, 32 << 10):
            place = Place(tmp_path / str(room)).prepare(MUCH)
            with filled(tmp_path, room):
                error = error_of(place)
            said.append(None if error is None else {"error": error.to_json()})
            clean_of_much.next_build_is_right(place)
            shutil.rmtree(place.folder)
        return said

    ended = in_child(work)
    assert ended.status == 0, ended
    said = ended.answer
    done = {tells_path_need_and_room(answer, tmp_path) for answer in said if answer}
    assert said[0] is not None
    assert said[-1] is None
    assert {"write in", "write to index"} <= done


@contextmanager
def filled(disk_root: Path, room: int) -> Iterator[None]:
    """Fill the disk but for `room` bytes while the context lasts."""
    free = os.statvfs(disk_root).f_bavail * os.statvfs(disk_root).f_frsize
    filler = disk_root / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(free - room, 1))
    yield
    filler.unlink()


def test_a_disk_without_inodes_says_so(clean: Clean, tmp_path: Path) -> None:
    """Where no file can be made in spite of room, the message tells that, and with inodes the next build is right."""

    def work() -> list[Any]:
        said = []
        for inodes in (*range(4, 40), 100):
            mounted = tmp_path / str(inodes)
            mounted.mkdir()
            mount_tmpfs(mounted, f"size=4m,nr_inodes={inodes}")
            place = Place(mounted / "place").prepare()
            error = error_of(place)
            said.append(None if error is None else {"error": error.to_json()})
            remount(mounted, "size=4m,nr_inodes=1000")
            clean.next_build_is_right(place)
        return said

    said = in_child(work).answer
    errors = [answer for answer in said if answer]
    for answer in errors:
        tells_path_need_and_room(answer, tmp_path)
    assert sum("no inodes" in answer["error"]["causes"][1] for answer in errors) > 5
    assert said[-1] is None


def test_the_command_says_it_once_and_ends_with_4(tmp_path: Path) -> None:
    """What a person sees of a full disk: one error with need and room, a hint, no traceback; then it goes on."""
    root = Path(__file__).parents[2]
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "weights").write_text("1 2 3")
    script = (
        "import pathlib, resource, sys\n"
        f"sys.path[:0] = [{str(root)!r}, {str(root / 'tests/cli')!r}]\n"
        "from maxbuild.cli import building, entry\n"
        "from maxbuild.engine import Store\n"
        "from toyplans import KINDS, Toy\n"
        f"root = pathlib.Path({str(tmp_path)!r})\n"
        "limit = int(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))\n"
        "def work(talk):\n"
        "    with Store(root / 'store') as store:\n"
        "        building.build(Toy(root), store, KINDS, building.Wishes('toy', 1), talk)\n"
        "    return 0\n"
        "sys.exit(entry.settle(work))\n"
    )
    limited, free = (
        subprocess.run([sys.executable, "-c", script, limit], capture_output=True, text=True, check=False, cwd=tmp_path)
        for limit in ("50000", "-1")
    )
    assert limited.returncode == 4
    assert limited.stderr.count("error: ") == 1
    assert f"error: could not write to index `{tmp_path}" in limited.stderr
    assert ROOM.search(limited.stderr)
    assert "hint: raise the limit on the size of files" in limited.stderr
    assert "Traceback" not in limited.stderr
    assert free.returncode == 0


# Stores that may not be written


def without_rights(place: Place) -> None:
    """Take the right to write from the store, and from this process what root could do in spite of that."""
    for path in (place.store, *place.store.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o222)
    drop_capabilities()


def on_a_read_only_disk(place: Place) -> None:
    """Put the store on a disk that is mounted read-only."""
    kept = place.folder / "kept"
    place.store.rename(kept)
    place.store.mkdir()
    mount_tmpfs(place.store, "size=4m")
    shutil.copytree(kept, place.store, dirs_exist_ok=True)
    remount(place.store, read_only=True)


@pytest.fixture(params=[without_rights, on_a_read_only_disk], ids=lambda how: how.__name__)
def lock_down(request: pytest.FixtureRequest) -> Callable[[Place], None]:
    """Return what makes a store read-only in a child."""
    return request.param  # type: ignore[no-any-return]


def test_a_read_only_store_still_reads(clean: Clean, tmp_path: Path, lock_down: Callable[[Place], None]) -> None:
    """Where all is there, a build runs nothing and every blob is found."""
    place = Place(tmp_path / "place").prepare()
    place.build()
    clean.ledger.unlink()

    def work() -> list[list[str]]:
        lock_down(place)
        with Store(place.store) as store:
            report = execute(ToyPlan(crash_tasks(place.words)), store, KINDS, scope="x", jobs=1)
            paths = [
                store.blob_path(digest) for result in report.results.values() for digest in result.outputs.values()
            ]
            assert report.results == clean.results
        return [sorted(set(states(report).values())), [path.read_text() if path else "" for path in paths]]

    reported, contents = in_child(work).answer
    assert reported == [State.CACHED]
    assert WORDS in contents
    assert "" not in contents
    assert not clean.ledger.exists()


def test_work_for_a_read_only_store_is_one_store_error(
    clean: Clean, tmp_path: Path, lock_down: Callable[[Place], None]
) -> None:
    """Where something has to run, the one error says that the store is read-only, and nothing ran."""
    place = Place(tmp_path / "place").prepare()
    place.build()
    clean.ledger.unlink()
    place.words.write_text(WORDS[::-1])

    def work() -> None:
        lock_down(place)
        place.build()

    ended = in_child(work)
    assert ended.status == 4
    assert "read-only" in str(ended.answer["error"])
    assert str(place.store) in ended.answer["error"]["message"]
    assert not clean.ledger.exists()


def test_a_read_only_store_of_a_killed_build_reads_or_says_so(
    clean: Clean, tmp_path: Path, lock_down: Callable[[Place], None]
) -> None:
    """The log that SQLite left may be read or not: what is found is right, what is not is work for another store."""
    place = Place(tmp_path / "place").prepare()

    def die() -> None:
        store = Store(place.store)
        execute(ToyPlan(crash_tasks(place.words)), store, KINDS, scope="x", jobs=1)
        os._exit(9)

    assert in_child(die).status == 9
    clean.ledger.unlink()

    def work() -> bool:
        lock_down(place)
        return place.build() == clean.results

    ended = in_child(work)
    assert ended.answer is True or (ended.status == 4 and "read-only" in str(ended.answer["error"]))
    assert not clean.ledger.exists()
