"""The store against tampering and races: nothing is lost, nothing false served, a result implies its blobs (G5, G6)."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest
from conftest import World, small_build, toy, why

from maxbuild.engine import (
    Reason,
    Record,
    Result,
    Store,
    default_store_root,
    disk,
    hash_bytes,
)
from maxbuild.engine.index import Index
from maxbuild.engine.locks import try_lock, wait_lock
from maxbuild.engine.memo import Stamp


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
    second = Record.of(first.text, Result({"out": hash_bytes(b"?")}), 0.0, 0)
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


def test_a_large_file_goes_to_the_disk_while_it_is_hashed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is published as any other, also where that early sync fails, and no thread is left behind."""
    synced: list[str] = []
    before = set(threading.enumerate())

    def refuse(_descriptor: int) -> None:
        synced.append(threading.current_thread().name)
        if threading.current_thread() is not threading.main_thread():
            raise OSError("not now")

    monkeypatch.setattr(disk, "_WORTH_A_THREAD", 1)
    monkeypatch.setattr(os, "fsync", refuse)
    path = tmp_path / "large"
    path.write_bytes(b"content")
    digest = store.publish(path)
    assert digest == hash_bytes(b"content")
    assert store.blob_path(digest) is not None
    assert threading.main_thread().name in synced
    assert set(synced) - {threading.main_thread().name}
    assert set(threading.enumerate()) <= before


def test_a_blob_that_appears_during_a_look_is_no_damage(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another builder publishes between two glances at its place stays where it is."""
    look = Stamp.of_plain

    def late(path: str) -> Stamp:
        try:
            return look(path)
        except FileNotFoundError:
            monkeypatch.undo()
            store.publish_bytes(b"content")
            raise

    monkeypatch.setattr(Stamp, "of_plain", late)
    store.blob_path(hash_bytes(b"content"))
    assert store.statistics().quarantined == 0
    assert store.blob_path(hash_bytes(b"content")) is not None


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
