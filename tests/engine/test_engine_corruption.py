"""Damage to every kind of file of a store: the next build is right, nothing outside is touched (G6, G10)."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import stat
import struct
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import pytest
from conftest import World, states, toy, why

from maxbuild.engine import OutputOf, Reason, Report, State, Store, Task, hash_file

Answer = TypeVar("Answer")
PATIENCE = 20.0
Damage = Callable[[Path, Path], None]
"""What happens to a file; the second path is a folder outside of the store."""
RUNS_ANYHOW = frozenset({"log", "lock", "clock", "leftover", "gate", "turn"})
"""Files that are used only when something runs."""
BLOBS = frozenset({"blob", "last blob"})


def plan(world: World, kind: str) -> list[Task]:
    """Return a plan that leaves blobs and a reference, and a log where a file of that `kind` is to be had."""
    return [
        toy("a", "concat", {"from": world.source("s", "one")}, text="a long enough content"),
        toy("far", "elsewhere", local={"place": str(world.folder / "far")}, text="far away"),
        toy("middle", "isolated" if kind == "log" else "concat", {"from": OutputOf("a", "out")}),
        toy("z", "concat", {"one": OutputOf("middle", "out"), "two": OutputOf("far", "out")}),
    ]


def furnish(world: World, kind: str) -> Report:
    """Build, and leave in the store what builds leave that ended well or were killed, a file of `kind` among it."""
    report = world.build(*plan(world, kind))
    base = world.store.root / "v1"
    blob = world.blob(report, "a")
    blob.chmod(0o644)
    blob.write_text("damage")  # so there is a blob in quarantine, replaced
    report = world.build(*plan(world, kind))
    key = report.tasks[0].key
    assert key is not None
    (base / "locks" / key).write_text("1 1 elsewhere\n")  # a killed builder's
    (base / "scratch" / "0123456789abcdef").mkdir()
    (base / "scratch" / "0123456789abcdef" / "half").write_text("half done")
    (base / "locks" / "0123456789abcdef.scratch").touch()
    _close_as_if_killed(world)
    world.ran()
    return report


def _close_as_if_killed(world: World) -> None:
    """Close the store and leave the write-ahead log beside the index, as a killed process does."""
    index = world.store.root / "v1" / "index"
    shutil.copytree(index, world.folder / "kept")
    world.store.close()
    shutil.rmtree(index)
    (world.folder / "kept").rename(index)


def kinds_of_files(world: World, report: Report) -> Mapping[str, Path]:
    """Return one file of each kind by the name of the kind."""
    base = world.store.root / "v1"
    key = report.tasks[0].key
    digests = {name: result.outputs["out"] for name, result in report.results.items()}
    return {
        "blob": base / "cas" / "sha256" / digests["a"][:2] / digests["a"],
        "last blob": base / "cas" / "sha256" / digests["z"][:2] / digests["z"],
        "reference": world.folder / "far",
        "index": base / "index" / "cache.db",
        "write-ahead log": base / "index" / "cache.db-wal",
        "shared memory": base / "index" / "cache.db-shm",
        "log": next((base / "logs").iterdir(), base / "none"),
        "lock": base / "locks" / str(key),
        "gate": base / "gate",
        "turn": base / "gate.turn",
        "clock": base / "scratch" / ".clock",
        "leftover": base / "scratch" / "0123456789abcdef" / "half",
        "quarantined": base / "quarantine" / f"{digests['a']}.replaced",
    }


def flip(path: Path, _: Path) -> None:
    content = bytearray(path.read_bytes() or b"\0")
    content[len(content) // 2] ^= 1
    _write(path, bytes(content))


def truncate(path: Path, _: Path) -> None:
    _write(path, path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path, _: Path) -> None:
    _write(path, b"")


def _write(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


def swap(path: Path, _: Path) -> None:
    """Exchange a blob with another one."""
    other = next(file for file in sorted(path.parent.parent.glob("??/*")) if file != path)
    path.rename(path.with_name("swapped"))
    other.rename(path)
    path.with_name("swapped").rename(other)


def directory(path: Path, _: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "something").write_text("of somebody's")


def link_to_equal(path: Path, outside: Path) -> None:
    path.rename(outside / "equal")
    path.symlink_to(outside / "equal")


def link_to_other(path: Path, outside: Path) -> None:
    path.unlink()
    path.symlink_to(outside / "sentinel")


def link_to_nothing(path: Path, outside: Path) -> None:
    path.unlink()
    path.symlink_to(outside / "nothing")


def unreadable(path: Path, _: Path) -> None:
    path.chmod(0)


def pipe(path: Path, _: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def listening(path: Path, _: Path) -> None:
    """Put a socket in its place; its address has to be a short one."""
    path.unlink()
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(path.parent)
        try:
            server.bind(".socket")
        finally:
            os.chdir(here)
    path.with_name(".socket").rename(path)


DAMAGES: Mapping[str, Damage] = {
    damage.__name__: damage
    for damage in (
        flip,
        truncate,
        empty,
        swap,
        directory,
        link_to_equal,
        link_to_other,
        link_to_nothing,
        unreadable,
        pipe,
        listening,
    )
}
KIND_NAMES = (
    *("blob", "last blob", "reference", "index", "write-ahead log", "shared memory"),
    *("log", "lock", "gate", "turn", "clock", "leftover", "quarantined"),
)
CASES = [(kind, damage) for kind in KIND_NAMES for damage in DAMAGES if damage != "swap" or kind in BLOBS]


def snapshot(folder: Path) -> list[tuple[str, int, int, int, bytes]]:
    """Return everything there is to see of the files in `folder` but when they were read."""
    found = []
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) and status.st_mode & 0o400 else b""
        found.append((str(path), status.st_mode, status.st_mtime_ns, status.st_size, content))
    return found


def give_up_root() -> None:
    """Let the rights of files bind this thread for good, and those it starts, also where it is root's."""
    header = struct.pack("Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this thread
    sets = ctypes.create_string_buffer(24)
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.capget(header, sets) == 0
    kept = 0xFFFFFFFF & ~(1 << 1 | 1 << 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    effective, permitted, *others = struct.unpack("6I", sets.raw)
    assert libc.capset(header, struct.pack("6I", effective & kept, permitted & kept, *others)) == 0


def as_anybody(work: Callable[[], Answer]) -> Answer:
    """Return what `work` returns in a thread that is not root's, or raise what it raises; it must not hang."""
    answers: list[Answer] = []
    errors: list[BaseException] = []

    def run() -> None:
        give_up_root()
        try:
            answers.append(work())
        except BaseException as error:  # noqa: BLE001 - it is raised where somebody can see it
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive(), "it hangs"
    if errors:
        raise errors[0]
    return answers[0]


def build_again(world: World, kind: str, rerun: Sequence[str]) -> tuple[Report, list[str]]:
    """Open the store, build, look at the store as a whole, close it; return the report and what was warned of."""

    def build() -> Report:
        with Store(world.store.root) as store:
            world.store = store
            report = world.build(*plan(world, kind), rerun=rerun)
            store.statistics()
            return report

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report = as_anybody(build)
    return report, [str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)]


@pytest.mark.parametrize(("kind", "damage"), CASES)
def test_after_any_damage_the_next_build_is_right(world: World, tmp_path: Path, kind: str, damage: str) -> None:
    """G6: whatever happens to a file of the store, one build makes it good, with one warning at most."""
    clean = furnish(world, kind)
    base, outside = world.store.root / "v1", tmp_path / "outside"
    outside.mkdir()
    (outside / "sentinel").write_text("not the store's")
    victim = kinds_of_files(world, clean)[kind]
    DAMAGES[damage](victim, outside)
    before = snapshot(outside)
    report, warned = build_again(world, kind, [task.name for task in clean.tasks] if kind in RUNS_ANYHOW else [])
    assert report.complete, [str(task.error) for task in report.tasks]
    assert report.results == clean.results
    assert snapshot(outside) == before
    assert len(warned) <= 1, warned
    if kind in BLOBS:
        reasons = [part.reason for part in why(report, "a" if kind == "blob" else "z")]
        assert reasons == [Reason.CORRUPT]
        assert os.path.lexists(base / "quarantine" / f"{victim.name}.replaced")
    for path in (base / "cas").glob("sha256/*/*"):
        assert stat.S_ISREG(path.lstat().st_mode)
        assert hash_file(path) == path.name
    world.ran()
    report, warned = build_again(world, kind, [])
    assert set(states(report).values()) == {State.CACHED}
    assert warned == []


def test_every_kind_of_file_is_damaged_above(world: World) -> None:
    """A store has no file of a kind that the test above leaves out."""
    report = furnish(world, "log")
    base = world.store.root / "v1"
    known = {
        "cas": BLOBS,
        "index": {"index", "write-ahead log", "shared memory"},
        "gate": {"gate"},
        "gate.turn": {"turn"},
        "locks": {"lock"},
        "logs": {"log"},
        "quarantine": {"quarantined"},
        "scratch": {"clock", "leftover"},
    }
    folders = {path.relative_to(base).parts[0] for path in base.rglob("*") if path.is_file()}
    assert folders == set(known)
    assert set().union(*known.values(), {"reference"}) == set(kinds_of_files(world, report)) == set(KIND_NAMES)
