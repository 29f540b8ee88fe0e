"""The index against tampering and breakage: nothing in it is ever obeyed, and losing it loses no blob (G8, G10)."""

from __future__ import annotations

import json
import os
import pickle
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import World, small_build, toy

from maxbuild.engine import BrokenIndexWarning, OutputOf, Store
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


ROWS = (
    "UPDATE Cache SET mode = 4, value = :bomb",
    "UPDATE Cache SET mode = 4, value = NULL, filename = :outside",
    "UPDATE Cache SET mode = 4, value = NULL, filename = :absolute",
    "UPDATE Cache SET mode = 2, value = NULL, filename = :outside",
    "UPDATE Cache SET mode = 2, value = NULL, filename = :absolute",
    "UPDATE Cache SET mode = 3, value = NULL, filename = :outside",
    "UPDATE Cache SET mode = 3, value = NULL, filename = :absolute",
    "UPDATE Cache SET mode = 1, filename = :absolute",
    "UPDATE Cache SET mode = 'x'",
    "UPDATE Cache SET value = 'text'",
    "UPDATE Cache SET value = 17",
    "UPDATE Cache SET value = NULL",
    "UPDATE Cache SET value = x'00ff'",
    "UPDATE Cache SET value = x'5b'",
    "UPDATE Cache SET value = CAST('[1]' AS BLOB)",
    "UPDATE Cache SET value = zeroblob(1000000)",
    "UPDATE Cache SET filename = :outside",
    "UPDATE Cache SET key = :bomb, raw = 0 WHERE rowid = 1",
    "UPDATE Cache SET key = CAST(key AS BLOB), raw = 0",
    "UPDATE Cache SET raw = 0",
    "UPDATE Cache SET expire_time = 1",
)
"""What somebody who can write the database may put into its rows."""
SETTINGS = (
    "INSERT INTO Settings VALUES ('disk_bogus', 1)",
    "INSERT INTO Settings VALUES ('sqlite_trusted_schema', 1)",
    "UPDATE Settings SET value = 'sideways' WHERE key = 'sqlite_journal_mode'",
    "UPDATE Settings SET value = 1 WHERE key IN ('size_limit', 'cull_limit', 'disk_min_file_size', 'statistics')",
    "UPDATE Settings SET value = -1",
    "DELETE FROM Settings",
    "DROP TABLE Settings",
    "DROP TABLE Cache",
)
SCHEMAS = (
    "DELETE FROM Cache; CREATE TRIGGER planted AFTER INSERT ON Cache BEGIN DELETE FROM Cache; END",
    "DELETE FROM Cache; CREATE TRIGGER planted BEFORE INSERT ON Cache BEGIN SELECT RAISE(ABORT, 'no'); END",
    "DELETE FROM Cache; CREATE TRIGGER planted AFTER INSERT ON Cache BEGIN UPDATE Cache SET mode = 4; END",
    "DELETE FROM Cache; CREATE TRIGGER planted AFTER INSERT ON Cache BEGIN SELECT load_extension('/outside.so'); END",
    "DELETE FROM Cache; DROP TRIGGER Settings_count_insert; CREATE TRIGGER Settings_count_insert AFTER INSERT ON Cache"
    " BEGIN SELECT RAISE(FAIL, 'no'); END",
    "DELETE FROM Cache WHERE rowid > 1; CREATE UNIQUE INDEX Cache_planted ON Cache (mode)",
    "ALTER TABLE Cache RENAME TO Hidden; CREATE VIEW Cache AS SELECT * FROM Hidden",
    "DROP TABLE Cache; CREATE TABLE Cache (rowid INTEGER PRIMARY KEY, key BLOB, raw INTEGER)",
    "PRAGMA writable_schema = 1; UPDATE sqlite_master SET sql = 'nonsense' WHERE name = 'Cache'",
)


@pytest.fixture(scope="module")
def tampered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Return what a process that watches itself told of a build over each tampered index."""
    folder = tmp_path_factory.mktemp("tampered")
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-P", str(here / "tampering.py")],
        input=json.dumps({"folder": str(folder), "changes": [*ROWS, *SETTINGS, *SCHEMAS]}),
        env={
            **os.environ,
            "MAXBUILD_TOY_LEDGER": str(folder / "ledger"),
            "PYTHONPATH": os.pathsep.join([str(here), *sys.path]),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return answers


@pytest.mark.parametrize("change", [*ROWS, *SETTINGS, *SCHEMAS])
def test_a_tampered_index_is_never_obeyed(tampered: dict[str, dict[str, Any]], change: str) -> None:
    """G10: nothing is unpickled, imported or run, nothing outside the store is opened; work is done again at worst."""
    told = tampered[change]
    assert told["error"] is None, told["error"]
    assert told["seen"] == []
    assert told["untouched"]
    assert told["right"]
    assert told["again"] == ["cached"]
    assert len(told["warnings"]) <= 1


def flip_rows(database: Path, prefix: str, place: int) -> None:
    """Flip one bit in every row whose key begins with `prefix`."""
    with closing(sqlite3.connect(database)) as connection:
        query = "SELECT rowid, value FROM Cache WHERE substr(key, 1, ?) = ?"
        for row, value in connection.execute(query, (len(prefix), prefix)).fetchall():
            content = bytearray(value)
            content[place % len(content)] ^= 1
            connection.execute("UPDATE Cache SET value = ? WHERE rowid = ?", (bytes(content), row))
        connection.commit()


@pytest.mark.filterwarnings("ignore::maxbuild.engine.BrokenIndexWarning")
@pytest.mark.parametrize("prefix", ["result:", "last:", "stamp:", "reference:"])
def test_a_flipped_bit_in_any_row_is_never_believed(world: World, prefix: str) -> None:
    """G6: SQLite has no checksums, rows have: wherever a bit flips, the next build is right."""
    words = world.source("words", "red green")
    split = toy("split", "multi_output", {"words": words}, outputs=("list", "parts/*"))
    far = toy("far", "elsewhere", local={"place": str(world.folder / "far")}, text="far away")
    uses = {"red": OutputOf("split", "parts/red"), "list": OutputOf("split", "list"), "far": OutputOf("far", "out")}
    tasks = [split, far, toy("use", "concat", uses)]
    clean = world.build(*tasks)
    for place in range(0, 1200, 31):
        world.store.close()
        flip_rows(world.store.root / "v1" / "index" / "cache.db", prefix, place)
        world.store = Store(world.store.root)
        report = world.build(*tasks)
        assert report.complete, [str(task.error) for task in report.tasks]
        assert report.results == clean.results
        assert [task.key for task in report.tasks] == [task.key for task in clean.tasks]


def test_a_row_moved_under_another_key_is_none(store: Store) -> None:
    """A row belongs to its key: swapped rows are no rows."""
    rows = store._index
    rows.set_json("one", 1)
    rows.set_json("two", 2)
    store.close()
    with closing(sqlite3.connect(store.root / "v1" / "index" / "cache.db")) as connection:
        for before, after in (("one", "other"), ("two", "one"), ("other", "two")):
            connection.execute("UPDATE Cache SET key = ? WHERE key = ?", (after, before))
        connection.commit()
    with pytest.warns(BrokenIndexWarning, match="damaged"):
        assert [rows.get_json("one"), rows.get_json("two")] == [None, None]


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
