"""The collector alone: what goes, in which order, how much that is, and what one that is killed leaves."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from children import in_child
from conftest import ToyPlan, World, toy
from stocks import DAY, NOW, RENEWALS, blobs, both, date, keys, put, sorts, taken
from toys import KINDS

from maxbuild.engine import (
    Renewal,
    Store,
    TaskKey,
    disk,
    execute,
    hash_file,
    journal,
)
from maxbuild.engine.collect import Cause, collect
from maxbuild.engine.holdings import own_files, take_stock
from maxbuild.engine.roots import add_root
from maxbuild.engine.waste import Sort


def test_without_limits_no_result_goes(store: Store) -> None:
    """What a collector takes without being given a limit serves no result."""
    old = put(store, "make", "old", b"old", written=0)
    assert both(store).results == ()
    assert keys(store) == {old}


def test_by_age_goes_what_nobody_used_for_that_long(store: Store) -> None:
    """Older than the limit goes, whatever its kind; as old as the limit stays."""
    old = put(store, "make", "old", b"old", written=NOW - DAY - 1)
    edge = put(store, "fetch", "edge", b"edge", written=NOW - DAY)
    done = both(store, max_age=DAY)
    assert [(piece.key, piece.cause, piece.used) for piece in done.results] == [(old, Cause.AGE, NOW - DAY - 1)]
    assert keys(store) == {edge}


def test_by_size_goes_first_what_is_had_again_most_easily_then_what_is_older(store: Store) -> None:
    """Downloads go before repacked weights and these before compiles, however old; within one of these, by age."""
    made = put(store, "make", "made", b"0" * 100, written=NOW - 9)
    unknown = put(store, "nobody knows", "unknown", b"1" * 100, written=NOW - 8)
    packed = put(store, "pack", "packed", b"2" * 100, written=NOW - 7)
    newer = put(store, "fetch", "newer", b"3" * 100, written=NOW - 1)
    older = put(store, "fetch", "older", b"4" * 100, written=NOW - 2)
    told = collect(store, RENEWALS, max_size=0, now=NOW, dry_run=True)
    assert taken(told) == [older, newer, packed, made, unknown]
    done = both(store, max_size=250)
    assert taken(done) == [older, newer, packed]
    assert (done.size, done.freed, done.kept) == (300, 300, 200)
    assert keys(store) == {made, unknown}
    assert both(store, max_size=200).results == ()


def test_a_use_counts_as_the_age_of_a_result(world: World) -> None:
    """A run that found a result makes it young, whenever it was written."""
    task = toy("a", "concat", text="x")
    with journal.Journal.begin(world.store, "world", ["test"], clock=lambda: NOW) as written:
        report = world.build(task, on_event=written)
        written.end(report, clock=lambda: NOW)
    world.store.close()
    key = report.tasks[0].key
    assert key is not None
    date(world.store, key, NOW - 9 * DAY)
    assert collect(world.store, max_age=DAY, now=NOW).results == ()
    (path,) = (world.store.base / "runs").glob("*.jsonl")
    path.unlink()
    assert taken(collect(world.store, max_age=DAY, now=NOW)) == [key]


def test_clearing_kinds_leaves_what_must_be_computed(store: Store, tmp_path: Path) -> None:
    """`clear` takes all results of a renewal, packages on disk or not, and leaves every other."""
    fetched, made = put(store, "fetch", "f", b"f"), put(store, "make", "m", b"m")
    witness = tmp_path / "package.json"
    witness.write_text("{}")
    add_root(store, witness, hash_file(witness), [fetched, made])
    done = both(store, clear=(Renewal.DOWNLOAD, Renewal.REPACK))
    assert [(piece.key, piece.cause) for piece in done.results] == [(fetched, Cause.KIND)]
    assert keys(store) == {made}


def test_shared_content_counts_once_and_goes_with_the_last_that_names_it(store: Store) -> None:
    """The bytes of content that two results name are freed once, when both are gone."""
    first = put(store, "make", "first", b"s" * 100, b"1" * 10, written=NOW - 3)
    second = put(store, "make", "second", b"s" * 100, b"2" * 10, written=NOW - 2)
    assert take_stock(store).size == 120
    done = both(store, max_size=0)
    assert [(piece.key, piece.size) for piece in done.results] == [(first, 10), (second, 110)]
    assert (done.freed, done.kept, blobs(store)) == (120, 0, set())


def test_a_result_that_would_free_nothing_stays(store: Store) -> None:
    """By size, nothing goes whose content stays for the sake of others, and nothing that lies outside of the store."""
    twin = put(store, "fetch", "twin", b"s" * 100, written=NOW - 9)
    other = put(store, "fetch", "other", b"o" * 100, written=NOW - 8)
    kept = put(store, "make", "kept", b"s" * 100, b"k" * 10, written=NOW - 1)
    assert taken(both(store, max_size=110)) == [other]
    assert keys(store) == {twin, kept}


def test_a_result_that_freed_nothing_in_the_end_is_put_back(store: Store) -> None:
    """What was chosen in the hope that its twin would go too stays when another made room before the twin's turn."""
    first = put(store, "make", "first", b"s" * 100, written=NOW - 9)
    large = put(store, "make", "large", b"l" * 100, written=NOW - 8)
    twin = put(store, "make", "twin", b"s" * 100, written=NOW - 7)
    assert taken(both(store, max_size=100)) == [large]
    assert keys(store) == {first, twin}


def test_content_with_another_link_leaves_the_store_and_frees_nothing(store: Store, tmp_path: Path) -> None:
    """A package keeps the bytes that it is made of: they leave the store, and the disk gets nothing back."""
    put(store, "make", "linked", b"l" * 100)
    put(store, "make", "alone", b"a" * 10)
    (linked,) = [file.path for file in own_files(store) if file.size == 100]
    os.link(linked, tmp_path / "package")
    done = both(store, max_size=0)
    assert (done.size, done.freed) == (110, 10)
    assert (tmp_path / "package").read_bytes() == b"l" * 100


def test_what_serves_nothing_goes_and_is_told(store: Store, tmp_path: Path) -> None:
    """Content, references, rows, stamps, quarantine, broken indexes and scratch without use go; the rest stays."""
    kept = put(store, "make", "kept", b"kept")
    base = store.base
    with Store(store.root) as builder:
        builder.publish_bytes(b"orphan")
        (tmp_path / "gone").write_text("gone")
        builder.adopt(tmp_path / "gone")
    (tmp_path / "gone").unlink()
    (base / "quarantine" / "bad").write_bytes(b"12")
    (base / "index.broken-00000000").mkdir()
    (base / "index.broken-00000000" / "cache.db").write_bytes(b"123")
    (base / "scratch" / "dead").mkdir()
    (base / "scratch" / "dead" / "file").write_bytes(b"1234")
    store.index.set_json("result:" + "0" * 64, {"no": "result"})
    store.index.set_json('root:"nowhere"', {"digest": "0" * 64, "keys": []})
    done = both(store)
    assert sorts(done) == set(Sort) - {Sort.LOG, Sort.JOURNAL}
    assert done.size == len(b"orphan") + 2 + 3 + 4
    assert both(store).waste == ()
    assert keys(store) == {kept}
    assert len(blobs(store)) == 1
    assert not [path for path in (base / "scratch").iterdir() if path.is_dir()]


def test_traces_of_mistakes_go_by_age_where_there_is_one(store: Store) -> None:
    """With an age, logs without a result, quarantine and broken indexes go only when they are older."""
    key = put(store, "make", "kept", b"kept")
    store.log_path(key).write_text("of a result")
    failed = store.log_path(TaskKey("0" * 64))
    failed.write_text("of a failure")
    (store.base / "quarantine" / "bad").write_bytes(b"12")
    assert collect(store, max_age=DAY).waste == ()
    done = collect(store, max_age=DAY, now=time.time() + 2 * DAY)
    assert sorts(done) == {Sort.LOG, Sort.QUARANTINE}
    assert not failed.exists()


def test_the_newest_journals_and_the_pinned_stay(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many journals, the newest and the pinned are kept."""
    monkeypatch.setattr("maxbuild.engine.waste.JOURNALS", 2)
    empty = execute(ToyPlan([]), store, KINDS, scope="x", jobs=1)
    for number in range(4):
        journal.Journal.begin(store, f"scope {number}", ["x"], clock=lambda n=number: NOW + n).end(empty)
    ids = journal.run_ids(store)
    journal.pin(store, ids[-1])
    assert [Path(piece.name).stem for piece in collect(store).waste] == [ids[2]]
    assert journal.run_ids(store) == [*ids[:2], ids[3]]


def killed_at(store: Path, countdown: int) -> bool:
    """Collect all there is in a child that dies at the effect of that number; return whether it came so far."""

    def work() -> None:
        left = countdown

        def die(_name: str, _path: Path) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                os._exit(9)

        disk.before_effect = die
        collect(Store(store), max_size=0)

    return in_child(work).status == 9


def test_a_collector_killed_at_any_effect_leaves_whole_results_and_the_next_one_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G5: at whatever effect a collector dies, every result left is complete, and the next one takes the rest."""
    deaths = 0
    while True:
        store = Store(tmp_path / str(deaths))
        put(store, "make", "first", b"shared", b"1")
        put(store, "make", "second", b"shared", b"2")
        died = killed_at(store.root, deaths)
        keys(store)  # each complete
        collect(store, max_size=0)
        assert (keys(store), blobs(store)) == (set(), set())
        if not died:
            break
        deaths += 1
    assert deaths > 10
