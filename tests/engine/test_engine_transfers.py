"""Tasks that transfer: they take no job, only so many run at once, and what they vouch for is not read again."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import ToyPlan, World
from toys import KINDS

from maxbuild.engine import (
    Event,
    Job,
    Kind,
    OutputOf,
    Reason,
    Report,
    SourceFile,
    State,
    Store,
    Task,
    TaskFinished,
    TaskStarted,
    Vouched,
    execute,
)
from maxbuild.engine import digest as digests
from maxbuild.engine.digest import hash_bytes
from maxbuild.engine.running import MOST_TRANSFERS

_meeting: dict[str, threading.Event] = {}
_running: list[str] = []
_most: list[int] = []


def wait_for(job: Job) -> Mapping[str, Path]:
    """Wait until the step `announce` has run."""
    assert _meeting["announced"].wait(30)
    return _left(job)


def announce(job: Job) -> Mapping[str, Path]:
    """Tell who waits for it."""
    _meeting["announced"].set()
    return _left(job)


def crowd(job: Job) -> Mapping[str, Path]:
    """Note how many of its like run, and stay until as many as there may be have come."""
    _running.append(str(job.params["text"]))
    _most.append(len(_running))
    if len(_running) >= MOST_TRANSFERS:
        _meeting["full"].set()
    _meeting["full"].wait(30)
    _running.remove(str(job.params["text"]))
    return _left(job)


def bring(job: Job) -> Mapping[str, Path]:
    """Leave `content` at the path `place`, and vouch for `vouched`; then `spoil` it, if that is to be."""
    place = Path(str(job.local["place"]))
    place.write_text(str(job.params["content"]))
    os.utime(place, ns=(1, 1))  # a time that nobody who writes later leaves
    job.vouched[place] = Vouched(hash_bytes(str(job.params["vouched"]).encode()), place.stat())
    if job.local.get("spoil"):
        place.write_text(str(job.local["spoil"]))
    return {"out": place}


def _left(job: Job) -> Mapping[str, Path]:
    path = job.scratch / "out"
    path.write_text(str(job.params["text"]))
    return {"out": path}


def _task(kind: str, text: str, **local: Any) -> Task:
    return Task(f"{kind} {text}", kind, {"text": text}, {}, {}, ("out",), local)


def _kind(name: str, *, transfers: bool) -> Kind:
    return Kind(name, f"{__name__}:{name}", isolated=False, transfers=transfers)


def _build(world: World, kinds: Mapping[str, Kind], *tasks: Task) -> Report:
    """Build with one job."""
    return execute(ToyPlan(tasks), world.store, {**KINDS, **kinds}, scope="world", jobs=1)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    _meeting.update(announced=threading.Event(), full=threading.Event())
    _running.clear()
    _most.clear()


def test_transfers_do_not_wait_behind_work(world: World) -> None:
    """With one job, a transfer runs while a task has the job; else these two would wait for each other."""
    kinds = {"wait_for": _kind("wait_for", transfers=False), "announce": _kind("announce", transfers=True)}
    tasks = (_task("wait_for", "a"), _task("announce", "b"))
    assert _build(world, kinds, *tasks).complete


def test_work_does_not_wait_behind_transfers(world: World) -> None:
    """With one job, a task runs while a transfer goes on."""
    kinds = {"wait_for": _kind("wait_for", transfers=True), "announce": _kind("announce", transfers=False)}
    tasks = (_task("wait_for", "a"), _task("announce", "b"))
    assert _build(world, kinds, *tasks).complete


def test_only_so_many_transfers_run_at_once(world: World) -> None:
    """As many as there are places, whatever the number of jobs, and never more."""
    kinds = {"crowd": _kind("crowd", transfers=True)}
    tasks = [_task("crowd", str(number)) for number in range(3 * MOST_TRANSFERS)]
    assert _build(world, kinds, *tasks).complete
    assert max(_most) == MOST_TRANSFERS


def test_jobs_are_no_more_with_transfers_about(world: World, tmp_path: Path) -> None:
    """Places for transfers are not taken by work: with two jobs, never three tasks that work run at once."""
    running: set[str] = set()
    most = 0

    def watch(event: Event) -> None:
        nonlocal most
        match event:
            case TaskStarted(name):
                running.add(name)
                most = max(most, len(running))
            case TaskFinished(report):
                running.discard(report.name)

    tasks = [_slow(number) for number in range(6)]
    assert world.build(*tasks, jobs=2, on_event=watch).complete
    assert most == 2


def _slow(number: int) -> Task:
    return Task(f"slow {number}", "slow", {"milliseconds": 30, "n": number}, {}, {}, ("out",), {"label": str(number)})


def _bring(place: Path, content: str, vouched: str, spoil: str = "") -> Task:
    params = {"content": content, "vouched": vouched}
    return Task("bring", "bring", params, {}, {}, ("out",), {"place": str(place), "spoil": spoil})


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the files that the engine reads to hash them, in order."""
    read: list[Path] = []

    def note(path: Path) -> digests.Digest:
        read.append(path)
        return digests.hash_file(path)

    monkeypatch.setattr("maxbuild.engine.memo.hash_file", note)
    return read


def test_what_a_step_vouches_for_is_not_read(world: World, tmp_path: Path, reads: list[Path]) -> None:
    """The digest that a step found while it wrote a file is that of its result, and nobody reads the file for it."""
    kinds = {"bring": _kind("bring", transfers=True)}
    report = _build(world, kinds, _bring(tmp_path / "file", "content", "content"))
    assert report.results["bring"].outputs["out"] == hash_bytes(b"content")
    assert reads == []
    assert _build(world, kinds, _bring(tmp_path / "file", "content", "content")).tasks[0].state is State.CACHED
    assert reads == []


def test_a_file_that_changed_since_is_read(world: World, tmp_path: Path, reads: list[Path]) -> None:
    """What is written after a step vouched counts, also where the size is the same."""
    kinds = {"bring": _kind("bring", transfers=True)}
    place = tmp_path / "file"
    report = _build(world, kinds, _bring(place, "content", "content", "another"))
    assert report.results["bring"].outputs["out"] == hash_bytes(b"another")
    assert reads == [place]


def test_a_vouched_file_that_changes_later_is_no_blob(world: World, tmp_path: Path) -> None:
    """What was believed is believed of that stat tuple alone: the task runs again."""
    kinds = {"bring": _kind("bring", transfers=True)}
    task = _bring(tmp_path / "file", "content", "content")
    _build(world, kinds, task)
    (tmp_path / "file").write_text("another")
    assert _build(world, kinds, task).tasks[0].state is State.BUILT


def test_nobody_vouches_for_what_is_no_output(world: World, tmp_path: Path) -> None:
    """What a step says of a file that it does not return is not heard."""
    kinds = {"gossip": _kind("gossip", transfers=False)}
    place = tmp_path / "source"
    place.write_text("source")
    gossip = Task("gossip", "gossip", {"text": "x"}, {}, {}, ("out",), {"about": str(place)})
    use = Task("use", "concat", {}, {"source": SourceFile(place)}, {}, ("out",), {"label": "use"})
    assert _build(world, kinds, gossip).complete
    with Store(world.store.root) as store:
        assert store.known_source(place) is None
    report = world.build(use)
    assert report.tasks[0].document is not None
    assert report.tasks[0].document.inputs["source"] == hash_bytes(b"source")


def gossip(job: Job) -> Mapping[str, Path]:
    """Vouch for a file of others."""
    about = Path(str(job.local["about"]))
    job.vouched[about] = Vouched(hash_bytes(b"a lie"), about.stat())
    return _left(job)


def test_a_task_that_runs_always_does_so_and_nothing_after_it(world: World) -> None:
    """It runs once in each build, as forced, under the key it would have anyway; what it leaves is what it left."""
    once = Task("a", "concat", {"text": "a"}, {}, {}, ("out",), {"label": "a"})
    always = replace(once, always=True)
    after = Task("b", "concat", {"text": "b"}, {"a": OutputOf("a", "out")}, {}, ("out",), {"label": "b"})
    first = world.build(once, after)
    assert world.ran() == ["a", "b"]
    for _ in range(2):
        (surveyed, *_) = world.survey(always, after).tasks
        assert [explanation.reason for explanation in surveyed.explanations] == [Reason.FORCED]
        report = world.build(always, after)
        assert world.ran() == ["a"]
        assert [task.key for task in report.tasks] == [task.key for task in first.tasks]
    assert world.build(once, after).complete
    assert world.ran() == []
