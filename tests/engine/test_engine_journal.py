"""The run journal: what a build did can be asked later, whatever became of the build, the journal and the disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ToyPlan, World, small_build, toy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toys import KINDS

from maxbuild.engine import (
    Event,
    OutputOf,
    Reason,
    Report,
    State,
    Store,
    Task,
    TaskFinished,
    TaskKey,
    TaskReport,
    execute,
    hash_bytes,
)
from maxbuild.engine import disk as disk_module
from maxbuild.engine.graph import TaskGraph
from maxbuild.engine.journal import (
    Journal,
    JournalWarning,
    Run,
    RunState,
    find_run,
    newest_run,
    pin,
    run_ids,
    runs,
    unpin,
    used,
)
from maxbuild.errors import StoreError, UsageError

TESTS = Path(__file__).parent


def journalled(world: World, *tasks: Task, scope: str = "world", at: float | None = None, **options: object) -> Report:
    """Build `tasks` with a journal, at a time of its own where one is given."""
    clock: Callable[[], float] = time.time if at is None else lambda: at
    with Journal.begin(world.store, scope, ["maxbuild", "warm"], version="1.2", clock=clock) as journal:
        report = execute(
            ToyPlan(tasks),
            world.store,
            KINDS,
            scope=scope,
            jobs=1,
            on_event=journal,
            **options,  # type: ignore[arg-type]
        )
        journal.end(report)
    return report


def newest(world: World) -> Run:
    """Return the newest run."""
    run = newest_run(world.store)
    assert run is not None
    return run


def folder(world: World) -> Path:
    """Return where the journals are."""
    return world.store.root / "v1" / "runs"


def lines(world: World, run: str) -> list[dict[str, object]]:
    """Return what the journal of a run says."""
    return [json.loads(line) for line in (folder(world) / f"{run}.jsonl").read_text().splitlines()]


def many(count: int, state: State = State.CACHED) -> Report:
    """Return the report of a build of many tasks."""
    tasks = [TaskReport(f"task {n}", "toy", state, key=TaskKey(hash_bytes(b"%d" % n))) for n in range(count)]
    return Report(tasks, {}, TaskGraph(), ())


def replay(store: Store, report: Report) -> str:
    """Write the journal of a build that came to `report`, and return its run."""
    with Journal.begin(store, "many", []) as journal:
        for task in report.tasks:
            journal(TaskFinished(task))
        journal.end(report)
    return journal.run


def test_a_run_tells_what_its_build_did(world: World) -> None:
    """The journal has each task's state, key, reasons, time, size and document, as the report has them."""
    report = journalled(world, *small_build())
    run = newest(world)
    assert (run.scope, run.command, run.version) == ("world", ("maxbuild", "warm"), "1.2")
    assert (run.state, run.counts, run.pinned, run.complete) == (RunState.ENDED, {"built": 2}, False, True)
    for task in report.tasks:
        told = run.tasks[task.name]
        assert (told.state, told.key, told.kind) == (State.BUILT, task.key, "concat")
        assert (told.explanations, told.seconds, told.bytes) == (task.explanations, task.seconds, task.bytes)
        assert told.document == task.document


def test_a_failed_task_is_told_with_its_error_and_document(world: World) -> None:
    """What no result row can tell later stands in the journal: the failure, and the document of what failed."""
    source = world.source("input", "bad")
    report = journalled(
        world, toy("f", "fail_if", {"in": source}, own=True), toy("z", "concat", {"f": OutputOf("f", "out")})
    )
    failed, skipped = (newest(world).tasks[name] for name in ("f", "z"))
    assert failed.state is State.FAILED
    assert str(failed.error) == "the input is bad: it says so"
    assert failed.document == report.tasks[0].document
    assert (skipped.state, skipped.key) == (State.SKIPPED, None)


def test_what_never_started_is_told_too(world: World) -> None:
    """A build that stops at a failure says of the others that they would have run, and of the rest that they wait."""
    source = world.source("input", "bad")
    journalled(
        world,
        toy("a", "fail_if", {"in": source}),
        toy("b", "concat", text="b"),
        toy("c", "concat", {"b": OutputOf("b", "out")}),
        toy("d", "concat", {"c": OutputOf("c", "out")}),
    )
    states = {name: task.state for name, task in newest(world).tasks.items()}
    assert states == {"a": State.FAILED, "b": State.BUILT, "c": State.WOULD_RUN, "d": State.WAITING}
    assert newest(world).counts == {"failed": 1, "built": 1, "would_run": 1, "waiting": 1}


def test_a_build_of_the_same_tasks_refers_to_the_run_that_lists_them(world: World) -> None:
    """A null build writes two lines, however many tasks there are, and is read as if it had listed them."""
    journalled(world, *small_build())
    first = newest(world)
    for _ in range(2):
        journalled(world, *small_build())
        null = newest(world)
        assert [next(iter(line)) for line in lines(world, null.id)] == ["run", "ended"]
        assert null.same_as == first.id  # never a run that refers on
        assert {name: (task.state, task.key) for name, task in null.tasks.items()} == {
            name: (State.CACHED, task.key) for name, task in first.tasks.items()
        }
        assert null.counts == {"cached": 2}
        assert all(task.explanations == () and task.document is None for task in null.tasks.values())


def test_other_keys_other_names_and_other_scopes_are_listed_in_full(world: World) -> None:
    """Only the very same tasks in the same scope are referred to."""
    journalled(world, toy("a", "concat", text="1"))
    journalled(world, toy("a", "concat", text="2"))
    journalled(world, toy("a", "concat", text="1"))  # found done, and not what the newest run listed
    assert newest(world).same_as is None
    journalled(world, toy("b", "concat", text="1"))
    assert newest(world).same_as is None
    journalled(world, toy("b", "concat", text="1"), scope="other")
    assert newest(world).same_as is None
    assert [task.state for task in newest(world).tasks.values()] == [State.CACHED]


def test_a_run_whose_reference_is_gone_says_so(world: World) -> None:
    """Tasks that nobody lists any more are not made up, and the next build lists its tasks again."""
    journalled(world, *small_build())
    first = newest(world).id
    journalled(world, *small_build())
    (folder(world) / f"{first}.jsonl").unlink()
    orphan = newest(world)
    assert (orphan.complete, orphan.tasks, orphan.counts) == (False, {}, {"cached": 2})
    journalled(world, *small_build())
    assert newest(world).same_as is None
    assert len(newest(world).tasks) == 2


def test_a_killed_build_leaves_what_it_did(world: World) -> None:
    """A build ended by kill -9 leaves a journal with the tasks that were done, and the run is told as one that died."""
    script = (
        "import sys; from pathlib import Path\n"
        f"sys.path[:0] = [{str(TESTS)!r}]\n"
        "from conftest import ToyPlan, toy\n"
        "from maxbuild.engine import OutputOf, Store, execute\n"
        "from maxbuild.engine.journal import Journal\n"
        "from toys import KINDS\n"
        "a, b = toy('a', 'concat', text='x'), toy('b', 'concat', text='y')\n"
        "z = toy('z', 'slow', {'a': OutputOf('a', 'out'), 'b': OutputOf('b', 'out')}, milliseconds=60000)\n"
        f"store = Store(Path({str(world.store.root)!r}))\n"
        "execute(ToyPlan([a]), store, KINDS, scope='world', jobs=1)\n"
        "journal = Journal.begin(store, 'world', [])\n"
        "def told(event):\n"
        "    journal(event)\n"
        "    if type(event).__name__ == 'TaskProgress' and event.name == 'z': print('running', flush=True)\n"
        "execute(ToyPlan([a, b, z]), store, KINDS, scope='world', jobs=1, on_event=told)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert "running" in process.stdout.readline()
    assert newest(world).state is RunState.RUNNING
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    process.stdout.close()
    died = newest(world)
    assert (died.state, died.ended) == (RunState.DIED, None)
    assert {name: task.state for name, task in died.tasks.items()} == {"a": State.CACHED, "b": State.BUILT}


def test_an_interrupted_build_says_so(world: World) -> None:
    """Ctrl-C ends the journal as one that was interrupted, with the task that was running."""

    def interrupt(event: Event) -> None:
        journal(event)
        if type(event).__name__ == "TaskProgress":
            raise KeyboardInterrupt

    with Journal.begin(world.store, "world", []) as journal:
        report = world.build(toy("s", "slow", milliseconds=60000), on_event=interrupt)
        journal.end(report)
    assert newest(world).state is RunState.INTERRUPTED
    assert newest(world).tasks["s"].state is State.INTERRUPTED


def test_a_torn_line_is_no_line(world: World) -> None:
    """A journal cut anywhere gives the lines before the cut and never an error, nor a task that was not there."""
    journalled(world, *small_build())
    whole = newest(world)
    path = folder(world) / f"{whole.id}.jsonl"
    content = path.read_bytes()
    head = content.index(b"\n") + 1
    for cut in range(len(content)):
        path.write_bytes(content[:cut])
        run = newest_run(world.store)
        if cut < head:
            assert run is None
        else:
            assert run is not None
            assert list(run.tasks.items()) == list(whole.tasks.items())[: content[:cut].count(b"\n") - 1]


GARBAGE = [
    b"", b"\0", b"null", b"[]", b"{", b'"run"', b"9" * 5000, b"[" * 100_000, b'{"task": "x"}',
    b'{"task": 1, "kind": "k", "state": "built", "key": null}',
    b'{"task": "x", "kind": "k", "state": "eaten", "key": null}',
    b'{"task": "x", "kind": "k", "state": "built", "key": "abc"}',
    b'{"task": "x", "kind": "k", "state": "built", "key": null, "reasons": [{"reason": "mood"}]}',
    b'{"task": "x", "kind": "k", "state": "built", "key": null, "reasons": 7}',
    b'{"task": "x", "kind": "k", "state": "built", "key": null, "seconds": "long"}',
    b'{"task": "x", "kind": "k", "state": "built", "key": null, "bytes": 1.5}',
    b'{"task": "x", "kind": "k", "state": "failed", "key": null, "error": {"class": "SystemExit"}}',
    b'{"task": "x", "kind": "k", "state": "built", "key": null, "document": {}}',
    b'{"ended": "yesterday"}', b'{"ended": 5}', b'{"ended": "9999-99-99T00:00:00Z"}', b'{"pinned": "yes"}',
    b'{"run": "another", "schema": 1, "scope": "s", "begun": "2026-01-01T00:00:00Z", "command": []}',
    b'{"run": [], "schema": {}}',
]  # fmt: skip


@pytest.mark.parametrize("line", GARBAGE)
def test_lines_that_are_none_are_passed_over(line: bytes, world: World) -> None:
    """Garbage between the lines changes nothing, and a file of nothing else is no run."""
    journalled(world, *small_build())
    whole = newest(world)
    path = folder(world) / f"{whole.id}.jsonl"
    path.write_bytes(b"\n".join(piece for old in path.read_bytes().split(b"\n") for piece in (old, line)) + b"\n")
    assert newest(world) == whole
    (folder(world) / "29991231T235959.999Z-0000.jsonl").write_bytes(line + b"\n")
    assert newest(world) == whole
    assert [run.id for run in runs(world.store)] == [whole.id]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(st.lists(st.one_of(st.binary(max_size=80), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from(["run", "task", "built", "2026-01-01T00:00:00Z", "0" * 64, "20260101T000000.000Z-x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["run", "schema", "scope", "begun", "command", "task", "kind", "state", "key", "reasons", "error", "document",
         "ended", "counts", "interrupted", "same_tasks_as", "pinned", "class", "seconds"]), inner, max_size=6),
    max_leaves=12).map(lambda value: json.dumps(value).encode()))))  # fmt: skip
def test_reading_never_breaks(world: World, written: list[bytes]) -> None:
    """Whatever a file in the folder holds, and whatever it refers to, reading it raises nothing."""
    name = "20260101T000000.000Z-x"
    begin = {"run": name, "schema": 1, "scope": "s", "begun": "2026-01-01T00:00:00Z", "command": []}
    (folder(world) / f"{name}.jsonl").write_bytes(b"\n".join([json.dumps(begin).encode(), *written, b""]))
    (run,) = runs(world.store)
    for task in run.tasks.values():
        assert task.document is None or task.document.key() == task.key
    used(world.store)


@pytest.mark.parametrize("reference", ["itself", "../../../secret", "", "missing", 7])
def test_references_go_one_step_and_stay_in_the_folder(reference: object, world: World) -> None:
    """A run that refers to itself, out of the folder, or to nothing is read without harm."""
    name, secret = "itself", "../../../secret"
    begin = {"run": name, "schema": 1, "scope": "s", "begun": "2026-01-01T00:00:00Z", "command": []}
    outside = (folder(world) / f"{secret}.jsonl").resolve()
    task = {"task": "t", "kind": "k", "state": "built", "key": "0" * 64}
    outside.write_text(f"{json.dumps({**begin, 'run': secret})}\n{json.dumps(task)}\n")
    end = {"ended": "2026-01-01T00:00:01Z", "counts": {"cached": 1}, "interrupted": False, "same_tasks_as": reference}
    (folder(world) / f"{name}.jsonl").write_text(f"{json.dumps(begin)}\n{json.dumps(end)}\n")
    (run,) = runs(world.store)
    assert (run.tasks, run.state) == ({}, RunState.ENDED)


def test_a_document_that_is_not_that_of_the_key_is_none(world: World) -> None:
    """A line cannot pass off one document as that of another key."""
    journalled(world, toy("a", "concat", text="1"))
    run = newest(world)
    path = folder(world) / f"{run.id}.jsonl"
    path.write_text(path.read_text().replace(r"\"text\":\"1\"", r"\"text\":\"2\""))
    assert run.tasks["a"].document is not None
    assert newest(world).tasks["a"].document is None


def test_a_journal_of_a_later_schema_is_left_alone(world: World) -> None:
    """What a later maxbuild wrote in another form is not guessed at."""
    journalled(world, *small_build())
    path = folder(world) / f"{newest(world).id}.jsonl"
    path.write_text(path.read_text().replace('"schema":1', '"schema":2', 1))
    assert runs(world.store) == []


def test_used_tells_when_each_result_was_last_made_or_found(world: World) -> None:
    """Null builds count as use; failures, and what never ran, do not."""
    source = world.source("input", "bad")
    good, bad = toy("a", "concat", text="1"), toy("f", "fail_if", {"in": source})
    keys = {task.name: task.key for task in journalled(world, good, bad, at=1000.0).tasks}
    assert used(world.store) == {keys["a"]: 1000.0}
    journalled(world, good, at=2000.0)
    journalled(world, good, at=3000.0)
    assert newest(world).same_as is not None
    journalled(world, toy("b", "concat", text="2"), at=1500.0)
    assert used(world.store)[keys["a"]] == 3000.0  # type: ignore[index]
    assert sorted(used(world.store).values()) == [1500.0, 3000.0]


def test_runs_are_told_newest_first(world: World) -> None:
    """Ids sort by time, and `before` counts back within a scope."""
    for at, scope in ((1000.0, "one"), (2000.0, "two"), (3000.0, "one")):
        journalled(world, toy("a", "concat"), scope=scope, at=at)
    assert [run.begun for run in runs(world.store)] == [3000.0, 2000.0, 1000.0]
    assert run_ids(world.store) == sorted(run_ids(world.store), reverse=True)
    assert [run.begun for n in range(4) if (run := newest_run(world.store, before=n))] == [3000.0, 2000.0, 1000.0]
    assert [run.begun for n in range(3) if (run := newest_run(world.store, "one", before=n))] == [3000.0, 1000.0]
    assert newest_run(world.store, "three") is None


def test_runs_within_one_millisecond_keep_their_order(world: World) -> None:
    """A null build of a small plan takes less than a millisecond, and the next may follow at once."""
    times = [1000.0 + n / 100_000 for n in range(12)]
    for at in times:
        journalled(world, toy("a", "concat"), at=at)
    assert [run.begun for run in runs(world.store)] == pytest.approx(times[::-1], abs=1e-6)


def test_pins_come_and_go(world: World) -> None:
    """A pin is kept in the journal; a run that is not there cannot be pinned."""
    journalled(world, *small_build())
    run = newest(world).id
    pin(world.store, run)
    assert newest(world).pinned
    unpin(world.store, run)
    assert not newest(world).pinned
    for name in ("20260101T000000.000Z-x", "../index", ""):
        with pytest.raises(UsageError, match="there is no run"):
            pin(world.store, name)


def test_a_pin_on_a_journal_that_ends_in_half_a_line_holds(world: World) -> None:
    """The mark does not become the end of what a killed build was writing."""
    journalled(world, *small_build())
    run = newest(world).id
    path = folder(world) / f"{run}.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    pin(world.store, run)
    assert newest(world).pinned
    assert len(newest(world).tasks) == 2


def test_a_store_that_may_only_be_read_gets_no_journal(world: World) -> None:
    """Nothing is written, and nobody is warned: a build that finds all done needs nothing of the disk."""
    world.build(*small_build())
    store = Store(world.store.root)
    store.read_only = True
    with Journal.begin(store, "world", []) as journal:
        assert not journal.is_written
        report = world.build(*small_build(), on_event=journal)
        journal.end(report)
    assert list(folder(world).iterdir()) == []
    with pytest.raises(StoreError):
        pin(store, "x")


@pytest.mark.parametrize("broken", ["lock", "append to", "rename"])
def test_a_journal_that_cannot_be_written_ends_no_build(
    broken: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk under the journal costs one warning, and the build goes on."""

    def fail(name: str, path: Path) -> None:
        if name == broken and path.parent == folder(world):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk_module, "before_effect", fail)
    with pytest.warns(JournalWarning, match="what this build does is not written down") as warned:
        assert journalled(world, *small_build()).complete
    assert len(warned) == 1
    monkeypatch.setattr(disk_module, "before_effect", None)
    assert journalled(world, *small_build()).complete
    assert newest(world).state is RunState.ENDED


def test_a_null_build_of_many_tasks_costs_next_to_nothing(store: Store) -> None:
    """Ten thousand tasks found done again take two appends, under a kilobyte, and no fsync."""
    report = many(10_000)
    first = replay(store, report)
    effects: list[str] = []
    disk_module.before_effect = lambda name, _: effects.append(name)
    try:
        begin = time.perf_counter()
        second = replay(store, report)
        seconds = time.perf_counter() - begin
    finally:
        disk_module.before_effect = None
    path = store.root / "v1" / "runs" / f"{second}.jsonl"
    assert (effects, path.stat().st_size < 1000) == (["lock", "append to", "append to"], True)
    assert seconds < 1.0  # 0.03 s on an idle machine
    run = find_run(store, second)
    assert run is not None
    assert (len(run.tasks), run.same_as) == (10_000, first)


def test_tasks_that_did_nothing_are_written_in_one_append(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines of many cached and skipped tasks do not open the file once each."""
    effects: list[str] = []
    monkeypatch.setattr(disk_module, "before_effect", lambda name, _: effects.append(name))
    report = many(1000)
    replay(store, replace(report, tasks=[*report.tasks, TaskReport("last", "toy", State.SKIPPED)]))
    assert effects.count("append to") == 3


def test_one_task_is_told_once(world: World) -> None:
    """A task whose end is announced again, because its consumers looked once more, keeps its one line."""
    task = many(1).tasks[0]._replace(state=State.BUILT)
    report = Report([task], {}, TaskGraph(), ())
    with Journal.begin(world.store, "world", []) as journal:
        for _ in range(3):
            journal(TaskFinished(task))
        journal.end(report)
    assert [line["task"] for line in lines(world, journal.run) if "task" in line] == ["task 0"]


def test_the_latest_state_of_a_task_holds(world: World) -> None:
    """A task that was done, and ran again because its result was lost, is told as it ended."""
    cached = many(1).tasks[0]
    built = cached._replace(state=State.BUILT)
    with Journal.begin(world.store, "world", []) as journal:
        journal(TaskFinished(built))
        journal(TaskFinished(built._replace(state=State.FAILED)))
        journal.end(Report([cached], {}, TaskGraph(), ()))
    assert [task.state for task in newest(world).tasks.values()] == [State.CACHED]


def test_reasons_are_those_of_the_build(world: World) -> None:
    """What changed since the run before stands in the journal, old and new."""
    journalled(world, toy("a", "concat", text="1"))
    journalled(world, toy("a", "concat", text="2"))
    (reason,) = newest(world).tasks["a"].explanations
    assert (reason.reason, reason.what, reason.old, reason.new) == (Reason.PARAM, "text", "1", "2")


def test_a_journal_is_for_its_owner_alone(world: World) -> None:
    """Nobody else may read what was built, and how it failed."""
    journalled(world, *small_build())
    assert {path.stat().st_mode & 0o777 for path in folder(world).iterdir()} == {0o600}


def test_a_pipe_in_the_folder_stops_nobody(world: World) -> None:
    """What is no plain file is not opened."""
    os.mkfifo(folder(world) / "20260101T000000.000Z-x.jsonl")
    assert runs(world.store) == []
