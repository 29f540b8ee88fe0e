"""Crashes: killed at any instant, or cut off from power, a build leaves a store from which the next is right (G5)."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from children import Ended, in_child, spared_disk
from conftest import toy
from crashes import WORDS, Clean, Place, clean
from hypothesis import given, settings
from hypothesis import strategies as st
from power_cut import Always, Drawn, Fate, Moment, Recorder, Ruin, forged
from strategies import search_settings
from watch import Watch, is_a_steps_own

from maxbuild.engine import BrokenIndexWarning, State, Store, disk
from maxbuild.engine.index import Index

__all__ = ["clean", "spared_disk"]


# Killed


def killed(moment: str, countdown: int, work: Callable[[], object]) -> Ended:
    """Do `work` in a child that kills itself `before` or `after` effect number `countdown`."""

    def die(_name: str, _path: Path) -> None:
        nonlocal countdown
        countdown -= 1
        if countdown < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def child() -> None:
        setattr(disk, f"{moment}_effect", die)
        work()

    return in_child(child)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_build_killed_at_any_effect_leaves_a_store_that_is_right(moment: str, clean: Clean, tmp_path: Path) -> None:
    """After SIGKILL at every effect, the next build ends as a clean one, and does no recorded work again."""
    reruns = []
    for number in range(1000):
        place = Place(tmp_path / str(number)).prepare()
        ended = killed(moment, number, place.build)
        if ended.status == 0:
            break
        assert ended.status == -signal.SIGKILL
        reruns.append(len(clean.next_build_is_right(place)))
    assert len(reruns) > 60
    assert reruns[0] == 3  # nothing was done yet
    assert reruns[-1] == 0  # all was done
    assert reruns == sorted(reruns, reverse=True)  # the later the kill, the less there is to do


def test_an_index_killed_at_any_statement_opens_again(tmp_path: Path) -> None:
    """SIGKILL between any two statements, those that make the tables among them, loses no row that was put down."""
    connect = sqlite3.connect

    def fill(folder: Path, countdown: int, put: int) -> None:
        def trace(statement: str) -> None:
            nonlocal countdown
            if not statement.lstrip().upper().startswith("SELECT"):
                countdown -= 1
                if countdown < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        def traced(*arguments: Any, **options: Any) -> sqlite3.Connection:
            connection = connect(*arguments, **options)
            connection.set_trace_callback(trace)
            return connection

        sqlite3.connect = traced  # type: ignore[assignment]
        index = Index(folder)
        for number in range(2):
            index.set_json(f"k:{number}", number)
            os.write(put, b".")

    for number in range(10000):
        folder = tmp_path / str(number)
        receiver, sender = os.pipe()
        ended = in_child(lambda folder=folder, number=number, sender=sender: fill(folder, number, sender))  # type: ignore[misc]
        os.close(sender)
        with os.fdopen(receiver, "rb") as pipe:
            rows = len(pipe.read())
        index = Index(folder)
        found = [index.get_json(f"k:{row}") for row in range(2)]
        assert found[:rows] == [0, 1][:rows]
        assert found[rows:] in ([None] * (2 - rows), [0, None][rows:], [1])
        index.set_json("after", True)
        index.close()
        if ended.status == 0:
            break
    assert number > 60


# Power


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Clean]:
    """Return a function that says what a clean build leaves for a content of the source file."""
    folder, known = tmp_path_factory.mktemp("expected"), {}

    def clean_of(words: str) -> Clean:
        if words not in known:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("MAXBUILD_TOY_LEDGER", str(folder / "ledger"))
                place = Place(folder / str(len(known))).prepare(words)
                known[words] = Clean.of(place, folder / "ledger")
        return known[words]

    return clean_of


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, list[Moment]]:
    """Record a build from nothing, an edit of the source in place by somebody who does not sync, and a second build."""
    place = Place(tmp_path_factory.mktemp("power") / "disk").prepare()
    recorder = Recorder(place.folder)
    with pytest.MonkeyPatch.context() as patch, recorder.recording():
        patch.setenv("MAXBUILD_TOY_LEDGER", str(place.folder.with_name("ledger")))
        place.build()
        place.words.write_text(WORDS[::-1])
        recorder.note("edit", place.words)
        place.build()
    return place, recorder.moments


def survives(ruin: Ruin, place: Place, expected: Callable[[str], Clean], seen: set[object]) -> None:
    """Check that the next build over what a power cut left is right, and that no result there lacks its blobs."""
    if (state := ruin.state()) in seen:
        return
    seen.add(state)
    try:
        with forged(ruin.materialise(place.folder)):
            results_imply_blobs(place, [expected(WORDS), expected(WORDS[::-1])])
            clean = expected(place.words.read_text())
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("MAXBUILD_TOY_LEDGER", str(clean.ledger))
                clean.next_build_is_right(place)
    except BaseException as error:
        error.add_note(repr(ruin))
        raise


def results_imply_blobs(place: Place, cleans: list[Clean]) -> None:
    """Every result that survived has its blobs, with the right bytes, but for those that are somebody's own file."""
    place.blobs_are_right()
    with Store(place.store) as store:
        for name, key in [pair for clean in cleans for pair in clean.keys.items() if pair[0] != "kept"]:
            record = store.read_record(key)
            for output, digest in record.result.outputs.items() if record else ():
                blob = place.base / "cas" / "sha256" / digest[:2] / digest
                assert blob.exists(), f"the result of `{name}` outlived its `{output}`"


FATES = {
    "what was not synced is lost, but for rows": Always(names=0, contents=0, rows=1),
    "what was not synced is lost, rows too": Always(names=0, contents=0, rows=0.5),
    "names are kept, files are empty": Always(names=1, contents=0, rows=1),
    "names are kept, files are cut or mixed": Always(names=1, contents=0.5, rows=1),
    "only rows are lost": Always(names=1, contents=1, rows=0),
}


@pytest.mark.parametrize("fate", FATES.values(), ids=[*FATES])
def test_a_power_cut_at_any_effect_leaves_a_store_that_is_right(
    fate: Fate, record: tuple[Place, list[Moment]], expected: Callable[[str], Clean]
) -> None:
    """Whatever un-synced names and bytes a power cut takes, the next build ends as a clean one."""
    place, moments = record
    seen: set[object] = set()
    for last in range(1, len(moments) + 1):
        survives(Ruin(moments[:last], fate), place, expected, seen)
    assert len(seen) > 5


@given(st.data())
@settings(search_settings())
def test_whatever_a_power_cut_takes_the_next_build_is_right(
    record: tuple[Place, list[Moment]], expected: Callable[[str], Clean], data: st.DataObject
) -> None:
    """The same for drawn choices, name by name and file by file."""
    place, moments = record
    last = data.draw(st.integers(1, len(moments)))
    fate = Drawn(lambda below: data.draw(st.integers(0, below - 1)))
    survives(Ruin(moments[:last], fate), place, expected, set())


# One module


def test_all_disk_effects_go_through_one_module(clean: Clean, tmp_path: Path) -> None:
    """No build changes what engine/disk has not announced, but for SQLite, and for steps in their own folders."""
    place, report = Place(tmp_path / "place").prepare(), tmp_path / "unannounced"
    report.touch()

    def work() -> list[list[str]]:
        watch = watched_builds(place, report)
        return [sorted(watch.announced), sorted(watch.databases)]

    announced, databases = in_child(work).answer
    assert report.read_text() == ""
    database = str(place.base / "index" / "cache.db")
    assert {path.removeprefix("file:").split("?")[0] for path in databases} == {database}
    sqlites = {database + suffix for suffix in ("", "-wal", "-shm")}
    # A rename announces the name of before.
    renamed = {str(path) for path in (*place.base.glob("quarantine/*"), *place.base.glob("runs/*.newest"))}
    made = {str(path) for path in place.store.rglob("*") if "index.broken" not in str(path)}
    assert made - set(announced) - sqlites - renamed == set()


def watched_builds(place: Place, report: Path) -> Watch:
    """Watch builds of every sort: from nothing, with nothing to do, failing, isolated, after damage of each sort."""
    sys.dont_write_bytecode, os.environ["PYTHONDONTWRITEBYTECODE"] = True, "1"
    site = place.folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        f"import pathlib, watch\nwatch.watch_worker(pathlib.Path({str(report)!r}), watch.is_a_steps_own)\n"
    )
    sys.path.insert(0, str(site))
    descriptor = os.open(report, os.O_WRONLY | os.O_APPEND)
    watch = Watch(lambda line: os.write(descriptor, f"{line}\n".encode()) and None, is_a_steps_own)
    more = [toy("child", "environment"), toy("fails", "crash"), toy("bad", "wrong", leaves="else")]
    states = {task.name: task.state for task in place.run(*more).tasks}
    assert states == {
        **dict.fromkeys(("list", "kept", "join", "child"), State.BUILT),
        **dict.fromkeys(("fails", "bad"), State.FAILED),
    }
    place.run()
    blob = next(place.base.glob("cas/sha256/*/*"))
    allowed = place.base / "index" / "cache.db"
    in_test(lambda: (blob.chmod(0o600), blob.write_bytes(b"damage")), watch)
    place.run()
    in_test(lambda: allowed.write_bytes(b"damage" * 1000), watch)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        place.run()
    assert [warning.category for warning in said] == [BrokenIndexWarning]
    return watch


def in_test(damage: Callable[[], object], watch: Watch) -> None:
    """Do `damage`, which is not the engine's."""
    watch.paused = True
    damage()
    watch.paused = False
