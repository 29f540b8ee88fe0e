"""The store against crashes, full disks, tampering, races: nothing is lost, nothing false served (G5, G6, G8, G10)."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import World, small_build, toy, why

from maxbuild.engine import (
    Reason,
    Store,
    default_store_root,
    disk,
    hash_bytes,
)
from maxbuild.engine.index import Index
from maxbuild.engine.locks import try_lock, wait_lock
from maxbuild.errors import StoreError


def test_the_root_comes_from_the_environment() -> None:
    """$MAXBUILD_STORE, else $XDG_CACHE_HOME/maxbuild, else ~/.cache/maxbuild."""
    assert default_store_root({"MAXBUILD_STORE": "/a", "XDG_CACHE_HOME": "/b"}) == Path("/a")
    assert default_store_root({"XDG_CACHE_HOME": "/b"}) == Path("/b/maxbuild")
    assert default_store_root({}) == Path.home() / ".cache" / "maxbuild"


def test_published_content_is_sealed_under_its_digest(store: Store) -> None:
    """A blob is read-only, lies under its sha256, and everything of the store is this user's alone."""
    digest = store.publish_bytes(b"content")
    path = store.root / "v1" / "cas" / "sha256" / digest[:2] / digest
    assert digest == hash_bytes(b"content")
    assert store.blob_path(digest) == path
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    for directory in (store.root, path.parent, store.root / "v1" / "index"):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_publishing_a_linked_file_leaves_the_other_name_alone(store: Store, tmp_path: Path) -> None:
    """A file that somebody else has a name for is copied: neither can change the other."""
    mine, scratch = tmp_path / "mine", tmp_path / "scratch"
    mine.write_text("content")
    os.link(mine, scratch)
    digest = store.publish(scratch)
    assert not scratch.exists()
    mine.write_text("changed")
    blob = store.blob_path(digest)
    assert blob is not None
    assert blob.read_text() == "content"


def test_a_changed_reference_is_no_blob(store: Store, tmp_path: Path) -> None:
    """A reference serves its file while the file holds the digest, also when it was only touched or linked."""
    path = tmp_path / "weights"
    path.write_text("content")
    digest = store.adopt(path)
    os.utime(path)
    os.link(path, tmp_path / "linked")
    assert store.blob_path(digest) == path
    path.write_text("changed")
    assert store.blob_path(digest) is None
    other = tmp_path / "other"
    other.write_text("content")
    assert store.adopt(other) == digest
    assert store.blob_path(digest) == other


def test_an_edit_that_restores_size_and_modification_time_is_seen(store: Store, tmp_path: Path) -> None:
    """The change time of a source counts: a tool that sets the modification time back is not believed."""
    path = tmp_path / "source"
    path.write_text("one")
    before = path.stat()
    first = store.digest_of_source(path)
    path.write_text("two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert store.digest_of_source(path) == hash_bytes(b"two") != first


def test_an_edit_in_the_same_tick_is_seen(store: Store, tmp_path: Path) -> None:
    """A stamp is not kept while the clock of the file system stands still."""
    path = tmp_path / "source"
    for number in range(50):
        path.write_text(f"{number:02}")
        assert store.digest_of_source(path) == hash_bytes(f"{number:02}".encode())


def test_a_stamp_is_not_kept_while_the_clock_stands_still(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where an edit could go unseen in the tick of the last one, the file is read again the next time."""
    path = tmp_path / "source"
    path.write_text("one")
    monkeypatch.setattr(disk, "touch", lambda _: path.stat().st_ctime_ns)
    store.digest_of_source(path)
    assert store.known_source(path) is None
    monkeypatch.undo()
    store.digest_of_source(path)
    assert store.known_source(path) == hash_bytes(b"one")


def effects_of_a_build(world: World, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Build in a fresh store and return the names of all disk effects, in order."""
    names: list[str] = []
    monkeypatch.setattr(disk, "before_effect", lambda name, _path: names.append(name))
    probe = Store(world.folder / "probe")
    world.store, kept = probe, world.store
    world.build(*small_build(), jobs=1)
    probe.close()
    world.store = kept
    world.ran()
    monkeypatch.setattr(disk, "before_effect", None)
    return names


def build_once(world: World, root: Path) -> None:
    """Open a store, build, close it."""
    world.store = Store(root)
    world.build(*small_build(), jobs=1)
    world.store.close()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_every_failing_effect_is_one_store_error_and_loses_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """G8: whichever effect fails, there is one StoreError with the path, and the next build is right."""
    count = len(effects_of_a_build(world, monkeypatch))
    assert count > 20
    clean = world.build(*small_build()).results
    for failing in range(count):
        left = [failing]

        def fail(_name: str, _path: Path, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] == -1:
                raise OSError(code, os.strerror(code))

        root = world.folder / f"store-{code}-{failing}"
        monkeypatch.setattr(disk, "before_effect", fail)
        with pytest.raises(StoreError) as caught:
            build_once(world, root)
        assert caught.value.exit_code == 4
        assert str(root) in caught.value.message or f"`{root.parent}`" in caught.value.message
        assert caught.value.causes[0] == os.strerror(code)
        assert ("bytes are free" in caught.value.causes[-1]) == (code == errno.ENOSPC)
        monkeypatch.setattr(disk, "before_effect", None)
        world.store = Store(root)
        assert world.build(*small_build()).results == clean


KILLED_BUILD = """
import os, signal, sys
from pathlib import Path
from conftest import ToyPlan, toy
from maxbuild.engine import OutputOf, Store, disk, execute
from toys import KINDS

tasks = [toy("a", "concat", text="x"), toy("z", "concat", {"from": OutputOf("a", "out")})]
for kill_at in range(int(sys.argv[2]), 1000, int(sys.argv[3])):
    process = os.fork()
    if process == 0:
        left = kill_at
        def die(name, path):
            global left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        disk.before_effect = die
        store = Store(Path(sys.argv[1]) / str(kill_at))
        execute(ToyPlan(tasks), store, KINDS, scope="x", jobs=1)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0:
        break
    print(kill_at)
"""


def test_a_build_killed_at_any_effect_leaves_a_store_that_is_right(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G5: after kill -9 at every disk effect, whatever is found is whole, and the next build ends as a clean one."""
    count = len(effects_of_a_build(world, monkeypatch))
    clean = world.build(*small_build()).results
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    kills = subprocess.run(
        [sys.executable, "-c", KILLED_BUILD, str(tmp_path / "killed"), "0", "1"],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert len(kills) >= count - 4  # the last effects of all are those of closing the store
    for kill in kills:
        world.store = Store(tmp_path / "killed" / kill)
        for path in (world.store.root / "v1" / "cas").glob("sha256/*/*"):
            assert hash_bytes(path.read_bytes()) == path.name
        assert world.build(*small_build()).results == clean
        world.store.publish_bytes(b"whoever needs scratch sweeps first")
        world.store.close()
        assert [path for path in (world.store.root / "v1" / "scratch").iterdir() if path.is_dir()] == []
        assert list((world.store.root / "v1" / "locks").iterdir()) == []


def test_bytes_reach_the_disk_before_their_name_and_the_name_before_the_result(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G5: a blob is sealed (which brings its bytes to the disk), then named, then its folder is brought to the disk."""
    names = effects_of_a_build(world, monkeypatch)
    published = [number for number, name in enumerate(names) if name == "publish"]
    assert len(published) == 2
    for number in published:
        assert "seal" in names[:number]
        assert names[number + 1] == "sync"


def test_a_result_implies_its_blobs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """G5: a result is put down only after every blob it names lies in the store."""
    set_json = Index.set_json

    def check(index: Index, key: str, value: object) -> None:
        if key.startswith("result:"):
            assert isinstance(value, dict)
            for digest in value["outputs"].values():
                assert (world.store.root / "v1" / "cas" / "sha256" / digest[:2] / digest).exists()
        set_json(index, key, value)

    monkeypatch.setattr(Index, "set_json", check)
    assert world.build(*small_build()).complete


def test_the_first_writer_wins(world: World) -> None:
    """A later result under the same key is dropped for the first, while its blobs are there."""
    report = world.build(toy("a", "concat", text="x"))
    key = report.tasks[0].key
    assert key is not None
    first = world.store.read_record(key)
    assert first is not None
    second = type(first)(first.text, type(first.result)({"out": hash_bytes(b"?")}), 0.0, 0, first.explanations)
    assert world.store.record_result(second) == first
    world.blob(report, "a").unlink()
    assert world.store.record_result(second) == second


def test_a_blob_damaged_by_another_writer_is_replaced(store: Store) -> None:
    """Publishing over a damaged blob quarantines it."""
    digest = store.publish_bytes(b"content")
    blob = store.blob_path(digest)
    assert blob is not None
    blob.chmod(0o644)
    blob.write_bytes(b"damage")
    assert store.publish_bytes(b"content") == digest
    assert blob.read_bytes() == b"content"
    assert store.statistics().quarantined == 1


def test_a_lock_is_one_at_a_time_and_leaves_no_file(tmp_path: Path) -> None:
    """Who waits gets the lock when it is given back, or nothing when told to stop."""
    path, stop = tmp_path / "lock", threading.Event()
    held = try_lock(path)
    assert held is not None
    assert try_lock(path) is None
    timer = threading.Timer(0.05, held.release)
    timer.start()
    with wait_lock(path, stop) or pytest.fail("no lock") as lock:
        assert lock is not None
        stop.set()
        assert wait_lock(path, stop) is None
    assert not path.exists()


def test_concurrent_publishers_of_one_content_agree(store: Store) -> None:
    """Threads that publish the same bytes all end with the one blob."""
    digests = []
    threads = [threading.Thread(target=lambda: digests.append(store.publish_bytes(b"same"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(digests) == {hash_bytes(b"same")}
    assert store.statistics().blobs == 1


def test_evicted_and_corrupt_are_told_apart(world: World) -> None:
    """G9: an output that is gone is evicted, one that is damaged is corrupt."""
    report = world.build(*small_build())
    world.blob(report, "a").unlink()
    z = world.blob(report, "z")
    z.chmod(0o644)
    z.write_text("damage")
    again = world.build(*small_build())
    assert [part.reason for part in why(again, "a")] == [Reason.EVICTED]
    assert [part.reason for part in why(again, "z")] == [Reason.CORRUPT]
    assert why(again, "a")[0].what == "out"
