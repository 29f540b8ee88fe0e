"""Files of a store that end anywhere, as a crash or a lost disk leaves them: the next build is right (G5, G6)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import warnings
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from children import in_child, spared_disk
from conftest import toy
from crashes import Clean, Place, clean, crash_tasks, run_in

from maxbuild.engine import JSON, BrokenIndexWarning, Store
from maxbuild.engine.index import Index
from maxbuild.engine.isolation import _read_answer
from maxbuild.errors import TaskFailed

__all__ = ["clean", "spared_disk"]
EVERY_BYTE = os.environ.get("MAXBUILD_SEARCH") == "fuzz"
"""Whether to cut large files at every byte, too, which takes an hour; MAXBUILD_CUTS=2/60 does a part of them."""
PART, PARTS = map(int, os.environ.get("MAXBUILD_CUTS", "0/1").split("/"))


@pytest.fixture
def built(clean: Clean, tmp_path: Path) -> Place:
    """Return a place in which a build was killed when it was done, so that nothing was tidied up; it has a log."""
    place = Place(tmp_path / "built").prepare()

    def work() -> None:
        store = Store(place.store)
        run_in(store, [*crash_tasks(place.words), toy("bad", "wrong", leaves="else")])
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(work).status == -signal.SIGKILL
    assert (place.base / "index" / "cache.db-wal").stat().st_size > 0
    return place


def cut(template: Path, copy: Path, length: int) -> None:
    """Make `copy` the first `length` bytes of `template`."""
    content = template.read_bytes()
    assert length <= len(content)
    copy.unlink()
    copy.write_bytes(content[:length])


def edges(size: int, unit: int, first: int = 0) -> list[int]:
    """Return lengths to cut a file of `size` bytes to: the edges of its units and one byte to each side."""
    around = {edge + shift for edge in (0, *range(first, size + unit, unit)) for shift in (-1, 0, 1)}
    return sorted(length for length in around if 0 <= length <= size)


@contextmanager
def warned_at_most_once() -> Iterator[None]:
    """Fail on any warning but one that the index is broken."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        yield
    assert len({str(warning.message) for warning in said}) <= 1
    assert {warning.category for warning in said} <= {BrokenIndexWarning}


@pytest.mark.parametrize(("name", "unit", "first"), [("cache.db", 4096, 0), ("cache.db-wal", 4120, 32)])
def test_an_index_cut_anywhere_serves_nothing_false(
    name: str, unit: int, first: int, built: Place, tmp_path: Path
) -> None:
    """Of a database, or its log, that ends anywhere every row is as it was or absent, and new rows can be written."""
    rows = rows_of(built.base / "index", tmp_path / "whole")
    if name == "cache.db":
        Store(built.store).close()
        with Store(built.store) as store:  # SQLite brings its log into the database with the last that closes
            store.publish_bytes(b"written")
        assert not (built.base / "index" / "cache.db-wal").exists()
        rows = rows_of(built.base / "index", tmp_path / "tidy")
    template = built.base / "index" / name
    size = template.stat().st_size
    lengths = range(PART, size + 1, PARTS) if EVERY_BYTE else [*edges(size, unit, first), *range(17, size, size // 16)]
    lost = 0
    for length in lengths:
        folder = tmp_path / "index"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(built.base / "index", folder)
        cut(template, folder / name, length)
        with warned_at_most_once():
            index = Index(folder)
            found = all_rows(index)
            # SQLite reads the rest of a last page that is cut as zeros, which are nothing in JSON
            kept = {key: found[key] for key in found.keys() & rows.keys() if found[key] is not None}
            assert kept == {key: rows[key] for key in kept}
            lost += len(kept) < len(rows)
            index.set_json("new", 1)
            index.close()
            index = Index(folder)
            assert index.get_json("new") == 1
            index.close()
        for aside in tmp_path.glob("index.broken-*"):
            shutil.rmtree(aside)
    assert lost > 10


def all_rows(index: Index) -> dict[str, JSON]:
    """Return all rows of an open index."""
    return {key: index.get_json(key) for key in index.keys("")}


def rows_of(index: Path, copy: Path) -> Mapping[str, JSON]:
    """Return all rows of `index`, read from a copy."""
    shutil.copytree(index, copy)
    opened = Index(copy)
    rows = all_rows(opened)
    opened.close()
    assert {key.split(":")[0] for key in rows} >= {"result", "last", "stamp", "reference"}
    return rows


@pytest.mark.parametrize("name", ["cache.db", "cache.db-wal", "cache.db-shm"])
def test_a_build_over_an_index_that_is_cut_is_right(name: str, built: Place, clean: Clean, tmp_path: Path) -> None:
    """Whatever was lost of the index, the next build ends as a clean one, with one warning at most."""
    template = built.base / "index" / name
    size = template.stat().st_size
    for length in (0, 1, 100, 4095, 4096, size // 2, size - 1):
        cut_and_built(built, clean, tmp_path / f"{length}", [(template, length)])


def test_a_build_over_blobs_that_are_cut_is_right(built: Place, clean: Clean, tmp_path: Path) -> None:
    """Blobs cut at any byte are found and made again."""
    blobs = list(built.base.glob("cas/sha256/*/*"))
    sizes = {blob: blob.stat().st_size for blob in blobs}
    for length in range(max(sizes.values())):
        shorter = [(blob, length) for blob in blobs if length < sizes[blob]]
        cut_and_built(built, clean, tmp_path / f"{length}", shorter)


def test_a_build_over_other_files_that_are_cut_is_right(built: Place, clean: Clean, tmp_path: Path) -> None:
    """Logs, journals of runs, claims and what is in locks may end at any byte."""
    files = [path for name in ("logs", "runs", "scratch", "locks") for path in (built.base / name).rglob("*")]
    sizes = {path: path.stat().st_size for path in files if path.is_file()}
    assert any(size > 50 for size in sizes.values())
    longest = max(sizes.values())
    for length in range(longest) if EVERY_BYTE else sorted({0, 1, *range(2, longest, longest // 16 + 1), longest - 1}):
        shorter = [(path, length) for path, size in sizes.items() if length < size]
        cut_and_built(built, clean, tmp_path / f"{length}", shorter)


def cut_and_built(built: Place, clean: Clean, folder: Path, cuts: list[tuple[Path, int]]) -> None:
    """Copy `built`, cut files short, and check that the next build is right."""
    shutil.copytree(built.folder, folder)
    for path, length in cuts:
        cut(path, folder / path.relative_to(built.folder), length)
    with warned_at_most_once():
        clean.next_build_is_right(Place(folder), damaged=True)
    shutil.rmtree(folder)


def test_a_row_cut_anywhere_is_no_row(built: Place, tmp_path: Path) -> None:
    """A result, or what was last under a name, that ends at any byte is absent; never half of it."""
    rows = rows_of(built.base / "index", tmp_path / "index")
    index = Index(tmp_path / "index")
    with closing(sqlite3.connect(tmp_path / "index" / "cache.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        for key, whole in rows.items():
            content = json.dumps(whole, separators=(",", ":"))
            for length in range(len(content)):
                connection.execute("UPDATE Cache SET value = ? WHERE key = ?", (content[:length].encode(), key))
                with pytest.warns(BrokenIndexWarning):
                    assert index.get_json(key) is None
            index.set_json(key, whole)
            assert index.get_json(key) == whole
    index.close()


def test_an_answer_of_a_child_cut_anywhere_is_a_failure(tmp_path: Path) -> None:
    """A child that dies while it writes its answer has left none."""
    answer = tmp_path / "answer.json"
    content = json.dumps({"outputs": {"out": "/somewhere"}}).encode()
    for length in range(len(content)):
        answer.write_bytes(content[:length])
        with pytest.raises(TaskFailed, match="task `t` failed"):
            _read_answer("t", answer, 0)
