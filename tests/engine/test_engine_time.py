"""Times say whether a file is the one it was, and nothing else: no order, no age, no trust in a clock (G7)."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import World, states, toy

from maxbuild.engine import OutputOf, SourceFile, State, Store, Task, disk, hash_file, memo
from maxbuild.engine.memo import Stamp

SECOND = 10**9
DAY = 24 * 60 * 60
LONG_AGO, RECENT, FUTURE = 0, 1_700_000_000, 8_000_000_000
"""Whole seconds, as coarse file systems and archives have them: 1970, 2023 and 2223."""


def joins(*sources: SourceFile) -> list[Task]:
    """Return a join of each source, and one of them all."""
    each = [toy(source.path.name, "concat", {"from": source}) for source in sources]
    return [*each, toy("all", "concat", {task.name: OutputOf(task.name, "out") for task in each})]


def set_time(path: Path, seconds: int) -> None:
    """Set when `path` was last modified, to the second."""
    os.utime(path, (seconds, seconds))


def refuse(*_: object) -> None:
    """Fail whoever calls this."""
    raise AssertionError("a null build did this")


@pytest.fixture
def jumping_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the clock of the day be another at every question: a day back, then on, then a year ahead, then 1970."""
    steps = itertools.cycle([-DAY, DAY // 2, 365 * DAY, -time.time()])

    def jump() -> Iterator[float]:
        real = time.time
        while True:
            yield real() + next(steps)

    readings = jump()
    next(readings)  # so that it holds the real clock before this takes its place
    monkeypatch.setattr(time, "time", lambda: next(readings))
    monkeypatch.setattr(time, "time_ns", lambda: int(next(readings) * SECOND))


@pytest.mark.usefixtures("jumping_clock")
def test_a_clock_that_jumps_changes_nothing(world: World) -> None:
    """What runs, and what is left, does not depend on what the clock says, in one process and in the next."""
    sources = [world.source(name, f"{name} one") for name in "st"]
    for content in ("two", "one", "six"):
        before = world.build(*joins(*sources))
        world.ran()
        assert world.build(*joins(*sources)).results == before.results
        world.source("s", f"s {content}")
        world.store.close()
        world.store = Store(world.store.root)
        report = world.build(*joins(*sources))
        assert world.content(report, "all") == f"((s {content}),(t one))"
        assert set(world.ran()) <= {"s", "all"}


def test_the_clock_a_day_back_between_builds(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An edit made before the build that it follows, as far as clocks can tell, is seen; what was not edited rests."""
    sources = [world.source(name, f"{name} one") for name in "st"]
    world.build(*joins(*sources))
    world.ran()
    now = int(time.time())
    monkeypatch.setattr(time, "time", lambda: float(now - DAY))
    world.source("s", "s two")
    for source in sources:
        set_time(source.path, now - DAY)
    report = world.build(*joins(*sources))
    assert world.ran() == ["all", "s"]
    assert world.content(report, "all") == "((s two),(t one))"


@pytest.mark.parametrize("seconds", [LONG_AGO, RECENT, FUTURE])
def test_a_modification_time_says_nothing(world: World, monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    """A file that was only touched is read once more and runs nothing; an edit is seen, whatever time it bears."""
    sources = [world.source(name, f"{name} one") for name in "st"]
    world.build(*joins(*sources))
    world.ran()
    for source in sources:
        set_time(source.path, seconds)
    assert set(states(world.build(*joins(*sources))).values()) == {State.CACHED}
    with monkeypatch.context() as quiet:
        quiet.setattr(memo, "hash_file", refuse)
        world.build(*joins(*sources))
    assert world.ran() == []
    world.source("t", "t two")
    set_time(sources[1].path, seconds)
    report = world.build(*joins(*sources))
    assert world.ran() == ["all", "t"]
    assert world.content(report, "all") == "((s one),(t two))"


def test_files_of_one_size_and_time_are_told_apart(world: World) -> None:
    """Two files that change places, equal in size and modification time, are seen to have done so."""
    sources = [world.source(name, f"content {name}") for name in "st"]
    for source in sources:
        set_time(source.path, RECENT)
    assert world.content(world.build(*joins(*sources)), "all") == "((content s),(content t))"
    world.ran()
    aside = world.folder / "aside"
    for old, new in ((sources[0].path, aside), (sources[1].path, sources[0].path), (aside, sources[1].path)):
        old.rename(new)
    report = world.build(*joins(*sources))
    assert world.content(report, "all") == "((content t),(content s))"
    assert world.ran() == ["all"]  # each join was done already, under the other name


def test_times_in_the_store_say_nothing(world: World) -> None:
    """A store that was copied or restored, so that its files bear other times, serves what it holds."""
    tasks = joins(world.source("s", "one"), world.source("t", "two"))
    before = world.build(*tasks)
    world.ran()
    for number, path in enumerate(sorted((world.store.root / "v1" / "cas").glob("*/*/*"))):
        set_time(path, (LONG_AGO, FUTURE)[number % 2])
    assert world.build(*tasks).results == before.results
    assert world.ran() == []
    assert world.store.statistics().quarantined == 0


def test_an_edit_right_after_a_build_is_seen(world: World) -> None:
    """Builds and edits that follow each other as fast as they can, in place and of equal size, miss nothing."""
    for number in range(40):
        report = world.build(*joins(world.source("s", f"{number:02}")))
        assert world.content(report, "all") == f"(({number:02}))"


def test_edits_within_a_tick_of_a_coarse_clock_are_seen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a file system counts whole seconds, two edits in one of them look alike, and still are told apart."""
    fine, touch = Stamp.of, disk.touch

    def coarse(path: str | Path) -> Stamp:
        stamp = fine(path)
        whole = {"modified": stamp.modified // SECOND * SECOND, "changed": stamp.changed // SECOND * SECOND}
        return stamp._replace(**whole)

    monkeypatch.setattr(Stamp, "of", coarse)
    monkeypatch.setattr(disk, "touch", lambda path: touch(path) // SECOND * SECOND)
    for content in ("one", "two", "six", "ten"):
        report = world.build(*joins(world.source("s", content)))
        assert world.content(report, "all") == f"(({content}))"


def meddled(world: World, how: str, content: str) -> Task:
    """Return a task that reads its source, which then is changed before the task ends."""
    source = SourceFile(world.folder / "s")
    return toy("m", "meddle", {"from": source}, local={"victim": str(source.path), "how": how, "content": content})


@pytest.mark.parametrize(
    ("how", "content"),
    [
        ("write", "changed"),
        ("write", "equal."),
        ("replace", "equal."),
        ("remove", ""),
        ("restore", "equal."),
    ],
)
def test_an_input_edited_while_its_task_runs_is_not_published(world: World, how: str, content: str) -> None:
    """The result lies under no key: neither the old content nor the new has one, and the next build makes it right."""
    world.source("s", "before")
    report = world.build(meddled(world, how, content))
    assert states(report) == {"m": State.FAILED}
    assert "changed while the task ran" in str(report.tasks[0].error)
    for after in ("before", content):
        world.source("s", after)
        assert states(world.survey(meddled(world, "rest", ""))) == {"m": State.WOULD_RUN}
        world.ran()
        again = world.build(meddled(world, "rest", ""))
        assert world.ran() == ["m"]
        assert world.content(again, "m") == after


def test_an_edit_between_look_up_and_run_is_taken_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that changes while its task waits is described anew: the result lies under the key of what was read."""
    source = world.source("s", "before")
    world.build(*joins(source))
    world.source("s", "first.")
    lock, edited = Store.lock, threading.Event()

    def edit_first(store: Store, *arguments: object) -> object:
        if not edited.is_set():
            edited.set()
            world.source("s", "second")
        return lock(store, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "lock", edit_first)
    report = world.build(*joins(source))
    assert world.content(report, "all") == "((second))"
    record = world.store.read_record(report.tasks[0].key)  # type: ignore[arg-type]
    assert record is not None
    assert record.document.inputs["from"] == hash_file(source.path)
    world.ran()
    world.source("s", "first.")
    world.build(*joins(source))
    assert world.ran() == ["all", "s"]
