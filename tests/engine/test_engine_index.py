"""The index against tampering and breakage: nothing in it is ever obeyed, and losing it loses no blob (G8, G10)."""

from __future__ import annotations

import os
import pickle
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from conftest import World, small_build, states, toy

from maxbuild.engine import BrokenIndexWarning, State, Store
from maxbuild.engine.index import Index
from maxbuild.engine.rows import RefusedRow
from maxbuild.engine.writer import BytesDisk
from maxbuild.errors import StoreError


def test_a_full_disk_under_the_index_is_a_store_error(store: Store) -> None:
    """G8: what sqlite says of a full disk is told like any other full disk."""
    store._index.set_json("k", "x")
    database = store._index._opened()._cache
    pages = database._sql("PRAGMA page_count").fetchone()[0]
    database._sql(f"PRAGMA max_page_count = {pages + 1}")
    with pytest.raises(StoreError, match="could not write to index") as caught:
        store._index.set_json("k", "x" * 2**20)
    assert "bytes are free" in caught.value.causes[-1]


def test_the_index_holds_bytes_under_text_and_nothing_else() -> None:
    """G10: every other value and key is refused on the way in."""
    rows = BytesDisk("/nowhere", min_file_size=0, pickle_protocol=0)
    for value in ("text", 1, 1.5, None, ["list"], bytearray(b"x")):
        with pytest.raises(RefusedRow):
            rows.store(value, False)
    for key in (b"bytes", 1, 1.5, None, ("tuple",)):
        with pytest.raises(RefusedRow):
            rows.put(key)
    for stored_key, raw in ((pickle.dumps("x"), 0), (b"x", 1), ("x", 0)):
        with pytest.raises(RefusedRow):
            rows.get(stored_key, raw)
    assert rows.get("x", 1) == "x"
    assert rows.fetch(1, None, rows.store(b"x" * 2**20, False)[3].tobytes(), False) == b"x" * 2**20


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        """Leave `path` behind."""
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        """Touch the path."""
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE Cache SET mode = 4, value = :bomb",
        "UPDATE Cache SET mode = 4, value = NULL, filename = :outside",
        "UPDATE Cache SET mode = 2, value = NULL, filename = :outside",
        "UPDATE Cache SET mode = 3, value = NULL, filename = :outside",
        "UPDATE Cache SET value = 'text'",
        "UPDATE Cache SET value = 17",
        "UPDATE Cache SET value = x'00ff'",
        "UPDATE Cache SET value = CAST('[1]' AS BLOB)",
        "UPDATE Cache SET filename = :outside",
        "UPDATE Cache SET key = :bomb, raw = 0 WHERE rowid = 1",
        "UPDATE Cache SET raw = 0",
    ],
)
@pytest.mark.filterwarnings("ignore::maxbuild.engine.BrokenIndexWarning")
def test_tampered_rows_are_never_obeyed(world: World, tmp_path: Path, change: str) -> None:
    """G10: nothing is unpickled, no file outside is read or removed; the work is simply done again."""
    bomb, outside = tmp_path / "bomb", tmp_path / "outside"
    outside.write_bytes(pickle.dumps(Bomb(bomb)))
    world.build(*small_build())
    world.store.close()
    with closing(sqlite3.connect(world.store.root / "v1" / "index" / "cache.db")) as connection:
        values = {"bomb": pickle.dumps(Bomb(bomb)), "outside": "../../../outside"}
        connection.execute(change, {name: value for name, value in values.items() if f":{name}" in change})
        connection.commit()
    world.store = Store(world.store.root)
    report = world.build(*small_build())
    world.store.statistics()
    assert report.complete
    assert world.content(report, "z") == "(x())"
    assert not bomb.exists()
    assert outside.exists()
    assert states(world.build(*small_build())) == {"a": State.CACHED, "z": State.CACHED}


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO Settings VALUES ('disk_bogus', 1)",
        "INSERT INTO Settings VALUES ('sqlite_trusted_schema', 1)",
        "UPDATE Settings SET value = 'sideways' WHERE key = 'sqlite_journal_mode'",
        "DROP TABLE Cache",
    ],
)
def test_an_index_with_foreign_settings_is_set_aside(world: World, change: str) -> None:
    """What diskcache would obey and is not ours makes the index a broken one."""
    world.build(*small_build())
    world.store.close()
    with closing(sqlite3.connect(world.store.root / "v1" / "index" / "cache.db")) as connection:
        connection.execute(change)
        connection.commit()
    world.store = Store(world.store.root)
    if "DROP" in change:  # diskcache makes the table again: an empty index, nothing to set aside
        assert world.build(*small_build()).complete
    else:
        with pytest.warns(BrokenIndexWarning, match="set aside"):  # only writing asks diskcache
            assert world.build(toy("new", "concat")).complete
    assert world.build(*small_build()).complete


def test_settings_of_an_older_index_do_not_bring_eviction_back(tmp_path: Path) -> None:
    """Whatever a database says, nothing is ever evicted."""
    index = Index(tmp_path / "index")
    index.set_json("k", 1)
    index.close()
    with closing(sqlite3.connect(tmp_path / "index" / "cache.db")) as connection:
        connection.execute("UPDATE Settings SET value = 10 WHERE key = 'cull_limit'")
        connection.execute("UPDATE Settings SET value = 1 WHERE key = 'size_limit'")
        connection.commit()
    index = Index(tmp_path / "index")
    for number in range(100):
        index.set_json(f"k:{number:03}", "x" * 1000)
    assert len(index.keys("k:")) == 100


@pytest.mark.parametrize("when", ["before", "while open"])
def test_a_broken_index_is_set_aside(world: World, when: str) -> None:
    """A database that is none is kept for its owner and started empty; blobs are found again by doing the work."""
    world.build(*small_build())
    world.ran()
    index = world.store.root / "v1" / "index"
    if when == "before":
        world.store.close()
        for path in index.iterdir():
            path.write_bytes(b"not a database at all" * 100)
        world.store = Store(world.store.root)
        with pytest.warns(BrokenIndexWarning, match="set aside"):
            world.store.last("world", "a")
    else:
        for path in index.glob("cache.db-*"):
            path.unlink()
        (index / "cache.db").write_bytes(b"not a database at all" * 1000)
        world.store._index.close()
        with pytest.warns(BrokenIndexWarning, match="set aside"):
            world.store.last("world", "a")
    assert world.build(*small_build()).complete
    assert world.ran() == ["a", "z"]
    assert len(list(index.parent.glob("index.broken-*"))) == 1


def test_a_result_that_answers_another_key_is_none(world: World) -> None:
    """A row moved under another key is not believed."""
    report = world.build(*small_build())
    a, z = report.tasks
    rows = world.store._index
    rows.set_json(f"result:{z.key}", rows.get_json(f"result:{a.key}"))
    assert z.key is not None
    assert world.store.read_record(z.key) is None
