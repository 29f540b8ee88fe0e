"""What a collector must leave: what packages, pinned runs and living builders rely on, in any history."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from builders import Builders, Orders, until
from conftest import World, toy
from hypothesis import given
from hypothesis import strategies as st
from stocks import DAY, NOW, blobs, both, keys, put, sorts, taken
from strategies import search_settings

from maxbuild.engine import (
    OutputOf,
    Record,
    Renewal,
    Result,
    Store,
    disk,
    hash_file,
    journal,
)
from maxbuild.engine.collect import collect
from maxbuild.engine.document import Document
from maxbuild.engine.holdings import named_by, take_stock
from maxbuild.engine.roots import add_root, read_roots
from maxbuild.engine.waste import Sort


def test_a_root_keeps_all_its_results_until_its_package_is_gone_or_another(store: Store, tmp_path: Path) -> None:
    """What a package was made of stays however old and large, as long as the package is the one that was placed."""
    key, other = put(store, "make", "a", b"a", written=0), put(store, "make", "b", b"b", written=0)
    witness = tmp_path / "package.json"
    witness.write_text("{}")
    add_root(store, witness, hash_file(witness), [key])
    assert taken(both(store, max_age=DAY, max_size=0)) == [other]
    witness.write_text("{ }")
    assert sorts(both(store)) == {Sort.ROOT}
    assert read_roots(store) == ([], [])
    assert taken(both(store, max_age=DAY)) == [key]


def test_a_root_that_is_known_is_not_written_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build that finds its package in place writes nothing (G4)."""
    witness = tmp_path / "package.json"
    witness.write_text("{}")
    key = put(store, "make", "a", b"a")
    add_root(store, witness, hash_file(witness), [key])
    written: list[str] = []
    monkeypatch.setattr(disk, "before_effect", lambda name, _path: written.append(name))
    add_root(store, witness, hash_file(witness), [key, key])
    assert set(written) <= {"lock"}


def test_a_pinned_run_keeps_what_it_used(world: World) -> None:
    """Results of a pinned run stay until it is unpinned."""
    with journal.Journal.begin(world.store, "world", ["test"], clock=lambda: NOW - 9 * DAY) as written:
        report = world.build(toy("a", "concat", text="x"), on_event=written)
        written.end(report, clock=lambda: NOW - 9 * DAY)
    world.store.close()
    (run,) = journal.run_ids(world.store)
    journal.pin(world.store, run)
    assert collect(world.store, max_size=0, max_age=0, now=NOW * 2).results == ()
    journal.unpin(world.store, run)
    assert len(collect(world.store, max_size=0).results) == 1


def test_what_a_living_builder_relies_on_is_never_taken(world: World, tmp_path: Path) -> None:
    """While another process builds, all it found and made stays, and so does content that no result names yet."""
    until_file = tmp_path / "go on"
    done = [toy("a", "concat", text="x"), toy("b", "concat", {"from": OutputOf("a", "out")})]
    held = toy("c", "held", {"from": OutputOf("b", "out")}, local={"until": str(until_file)})
    world.build(done[0])
    stranger = put(world.store, "make", "stranger", b"stranger")
    world.store.close()
    world.ran()
    with Builders([Orders(world.store.root, [*done, held])], tmp_path / "built") as builders:
        until(lambda: world.ledger.exists() and "c" in world.ledger.read_text().split())
        loose = world.store.base / "cas" / "sha256" / "00" / ("00" * 32)
        loose.parent.mkdir(exist_ok=True)
        loose.write_bytes(b"about to be named")
        collected = collect(world.store, max_size=0, max_age=0, now=NOW * 2, clear=tuple(Renewal))
        assert taken(collected) == [stranger]
        assert loose.exists()
        until_file.touch()
        (built,) = builders.wait()
    assert built.error is None
    assert world.ran() == ["b", "c"]
    assert len(collect(world.store, max_size=0).results) == 3
    assert blobs(world.store) == set()


def test_builders_never_miss_what_they_had_beside_a_collector_that_takes_all_it_may(
    world: World, tmp_path: Path
) -> None:
    """Three processes build the same three times over while everything is collected again and again: all is found."""
    source = world.source("s", "one two")
    tasks = [
        toy("list", "multi_output", {"words": source}, outputs=("list", "parts/*")),
        toy("kept", "pass_through", {"from": source}),
        *(toy(f"join {n}", "concat", {"a": OutputOf("list", "list"), "b": OutputOf("kept", "out")}) for n in range(2)),
        *(toy(f"end {n}", "concat", {"from": OutputOf(f"join {n}", "out")}, text=str(n)) for n in range(2)),
    ]
    orders = [Orders(world.store.root, tasks, scope=f"scope {number}", times=3) for number in range(3)]
    collections = 0
    with Builders(orders, tmp_path / "built") as builders:
        while builders.running:
            collect(world.store, max_size=0)
            collections += 1
        built = builders.wait()
    assert collections > 1
    for one in built:
        assert (one.error, one.warnings) == (None, [])
        assert set(one.states.values()) == {"CACHED"}
        assert one.results == built[0].results
    collect(world.store, max_size=0)
    assert (keys(world.store), blobs(world.store)) == (set(), set())


def test_content_that_is_published_stays_until_its_result_names_it(store: Store) -> None:
    """Content that was there already, and that a builder counts on, outlives the result that brought it (G5)."""
    key = put(store, "make", "first", b"shared")
    with Store(store.root) as builder:
        digest = builder.publish_bytes(b"shared")
        assert taken(collect(store, max_size=0)) == [key]
        document = Document("make", {"name": "second"}, {}, {}, ("out",))
        second = builder.record_result(Record.of(document.text, Result({"out": digest}), 1.0, 1)).key
        assert builder.find_result(second) is not None
    assert keys(store) == {second}


def test_a_reference_that_is_adopted_stays_until_its_result_names_it(store: Store, tmp_path: Path) -> None:
    """Where content lies outside of the store is not forgotten while a builder counts on it."""
    (tmp_path / "weights").write_text("weights")
    with Store(store.root) as builder:
        digest = builder.adopt(tmp_path / "weights")
        assert collect(store, max_size=0).waste == ()
        assert builder.blob_path(digest) == tmp_path / "weights"
    assert sorts(collect(store)) == {Sort.REFERENCE}


def test_what_is_found_while_a_collection_goes_on_is_left(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result that a builder claims after it was chosen, and one whose package was placed meanwhile, stay."""
    claimed, rooted, gone = (put(store, "make", name, name.encode()) for name in ("claimed", "rooted", "gone"))
    witness = store.root / "package.json"
    witness.write_text("{}")
    builder = Store(store.root)
    collecting = Store.collecting

    def meanwhile(self: Store) -> object:
        with builder.steady():
            assert builder.find_result(claimed) is not None
            builder.claim(claimed)
        add_root(builder, witness, hash_file(witness), [rooted])
        return collecting(self)

    monkeypatch.setattr(Store, "collecting", meanwhile)
    assert taken(collect(store, max_size=0)) == [gone]
    monkeypatch.undo()
    builder.close()
    assert keys(store) == {claimed, rooted}


@dataclass(frozen=True)
class History:
    """Results over a few contents by kind, contents and age; which are rooted and claimed; what is asked for."""

    results: list[tuple[str, frozenset[int], int]]
    rooted: frozenset[int]
    claimed: frozenset[int]
    loose: frozenset[int]
    max_size: int | None
    max_age: int | None


few = st.frozensets(st.integers(0, 6), max_size=2)
histories = st.builds(
    History,
    results=st.lists(
        st.tuples(
            st.sampled_from(["fetch", "pack", "make", "other"]),
            st.frozensets(st.integers(0, 4), min_size=1, max_size=3),
            st.integers(0, 5),
        ),
        min_size=1,
        max_size=7,
    ),
    rooted=few,
    claimed=few,
    loose=st.frozensets(st.integers(5, 6)),
    max_size=st.none() | st.integers(0, 100),
    max_age=st.none() | st.integers(0, 5),
)
MEMORY = Path("/dev/shm")
"""A file system in memory, where there is one: a search takes hundreds of small databases."""


@search_settings()
@given(history=histories)
def test_whatever_there_is_what_is_relied_on_stays_and_all_that_stays_is_whole(history: History) -> None:
    """After any collection, what roots and claims keep is there, every result is complete, the limits are kept."""
    with TemporaryDirectory(prefix="collect-", dir=MEMORY if MEMORY.is_dir() else None) as folder:
        check(history, Path(folder))


def check(history: History, folder: Path) -> None:
    """Bring about `history` in `folder`, collect, and look at what is left."""
    store, builder = Store(folder / "store"), Store(folder / "store")
    made = [
        put(store, kind, str(number), *(bytes([n]) * 10 * n for n in contents), written=NOW - age)
        for number, (kind, contents, age) in enumerate(history.results)
    ]
    for number in history.loose:
        with Store(store.root) as other:
            other.publish_bytes(b"loose" * number)
    witness = folder / "package.json"
    witness.write_text("{}")
    rooted = {made[number] for number in history.rooted if number < len(made)}
    add_root(store, witness, hash_file(witness), rooted)
    with builder.steady():
        for number in history.claimed:
            if number < len(made):
                builder.claim(made[number])
    claimed = {made[number] for number in history.claimed if number < len(made)}
    done = both(store, max_size=history.max_size, max_age=history.max_age)
    left = keys(store)  # each complete
    assert rooted | claimed <= left
    assert left.isdisjoint(taken(done))
    assert left.union(taken(done)) == set(made)
    ages = {key: age for key, (_, _, age) in zip(made, history.results, strict=True)}
    if history.max_age is not None:
        assert all(ages[key] <= history.max_age for key in left - rooted - claimed)
    stock = take_stock(store)
    assert done.kept == stock.size
    if history.max_size is not None:
        needed = {digest for key in rooted | claimed for digest in stock.results[key].contents}
        room = max(history.max_size, sum(stock.files[digest].size for digest in needed))
        assert sum(stock.files[digest].size for digest in named_by(stock.results)) <= room
    builder.close()
    collect(store)
    stock = take_stock(store)
    assert stock.files.keys() == named_by(stock.results).keys()
    assert keys(store) == left
    store.close()
