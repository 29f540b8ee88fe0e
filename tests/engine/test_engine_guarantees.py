"""Guarantees G1 (correct), G2 (minimal), G3 (early cutoff), G4 (null build), G9 (reasons), on toy tasks."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from conftest import ToyPlan, World, states, toy, why

from maxbuild.engine import (
    Deferred,
    Explanation,
    GraphGrew,
    OutputOf,
    Reason,
    SourceFile,
    State,
    Store,
    Task,
    TaskFinished,
    TaskStarted,
    memo,
)
from maxbuild.errors import UsageError


def chain(source: SourceFile) -> list[Task]:
    """Return three toys: `a` joins, `p` tells the parity, `z` joins what `p` tells."""
    return [
        toy("a", "concat", {"from": source}),
        toy("p", "parity", {"from": OutputOf("a", "out")}),
        toy("z", "concat", {"from": OutputOf("p", "out")}),
    ]


def test_each_task_runs_once_per_store(world: World) -> None:
    """G2: the second build finds everything."""
    tasks = chain(world.source("s", "one"))
    first = world.build(*tasks)
    assert world.ran() == ["a", "p", "z"]
    assert set(states(first).values()) == {State.BUILT}
    second = world.build(*tasks)
    assert world.ran() == []
    assert set(states(second).values()) == {State.CACHED}
    assert second.results == first.results
    assert second.complete


def test_names_labels_and_places_are_not_in_the_key(world: World) -> None:
    """G2: the same work under another name, scope, folder and local data is found."""
    world.build(toy("a", "concat", {"from": world.source("s", "one")}))
    world.ran()
    elsewhere = toy("b", "concat", {"from": world.source("t", "one")}, local={"token": "secret"})
    report = world.build(elsewhere, scope="another")
    assert world.ran() == []
    assert states(report) == {"b": State.CACHED}


def test_two_tasks_with_one_key_run_once(world: World) -> None:
    """G2: equal work under two names in one build is done once."""
    source = world.source("s", "one")
    report = world.build(toy("a", "concat", {"from": source}), toy("b", "concat", {"from": source}))
    assert len(world.ran()) == 1
    assert report.results["a"] == report.results["b"]


def test_unchanged_output_stops_the_rebuild(world: World) -> None:
    """G3: an edit that leaves a task's output as it was runs nothing after that task."""
    world.build(*chain(world.source("s", "one")))
    world.ran()
    report = world.build(*chain(world.source("s", "two")))
    assert world.ran() == ["a", "p"]
    assert states(report)["z"] is State.CACHED


def test_incremental_result_equals_clean_result(world: World, tmp_path: Path) -> None:
    """G1: after an edit, the store holds what a build from nothing makes."""
    world.build(*chain(world.source("s", "one")))
    tasks = chain(world.source("s", "four"))
    incremental = world.build(*tasks)
    world.store = Store(tmp_path / "clean")
    assert world.build(*tasks).results == incremental.results


def test_an_edit_of_equal_size_is_seen(world: World) -> None:
    """G1: content counts, not size."""
    world.build(*chain(world.source("s", "one")))
    report = world.build(*chain(world.source("s", "two")))
    assert world.content(report, "a") == "(two)"


def test_null_build_reads_no_unchanged_file_and_opens_no_socket(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """G4: with nothing to do, no file is hashed, no connection made, nothing run, also by a new process."""
    tasks = chain(world.source("s", "one"))
    world.build(*tasks)
    world.ran()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a null build did this")

    monkeypatch.setattr(memo, "hash_file", refuse)
    monkeypatch.setattr(socket, "socket", refuse)
    world.store = Store(world.store.root)
    report = world.build(*tasks)
    assert report.complete
    assert world.ran() == []


def test_first_run_is_new(world: World) -> None:
    """G9: what never ran under this name is new; what was found has no reason."""
    tasks = chain(world.source("s", "one"))
    report = world.build(*tasks)
    assert why(report, "a") == (Explanation(Reason.NEW, "a"),)
    assert all(not task.explanations for task in world.build(*tasks).tasks)


def test_reasons_name_what_changed(world: World) -> None:
    """G9: parameter, toolchain and input changes are told with old and new."""
    source = world.source("s", "one")
    first = world.build(toy("a", "concat", {"from": source}, text="x", toolchain={"torch": "1"}))
    source = world.source("s", "other")
    second = world.build(toy("a", "concat", {"from": source}, text="y", toolchain={"torch": "2"}))
    assert why(first, "a")[0].reason is Reason.NEW
    told = {(part.reason, part.what, part.old, part.new) for part in why(second, "a")}
    assert (Reason.PARAM, "text", "x", "y") in told
    assert (Reason.TOOLCHAIN, "torch", "1", "2") in told
    assert {part.what for part in why(second, "a") if part.reason is Reason.INPUT} == {"from"}
    assert len(told) == 3


def test_going_back_to_an_old_setting_runs_nothing(world: World) -> None:
    """G9: a hit under another key has no reason, and the next difference is told against it."""
    source = world.source("s", "one")
    for text in ("x", "y", "x"):
        report = world.build(toy("a", "concat", {"from": source}, text=text))
    assert states(report)["a"] is State.CACHED
    report = world.build(toy("a", "concat", {"from": source}, text="z"))
    assert why(report, "a") == (Explanation(Reason.PARAM, "text", "x", "z"),)


def test_forced_task_runs_and_says_so(world: World) -> None:
    """G9: a rerun is forced, and early cutoff still holds after it."""
    tasks = chain(world.source("s", "one"))
    world.build(*tasks)
    world.ran()
    report = world.build(*tasks, rerun={"a"})
    assert world.ran() == ["a"]
    assert why(report, "a") == (Explanation(Reason.FORCED, "a"),)


def test_missing_result_is_evicted(world: World) -> None:
    """G9: the same work whose result is gone runs as evicted."""
    task = toy("a", "concat", {"from": world.source("s", "one")})
    report = world.build(task)
    world.store._index.delete(f"result:{report.tasks[0].key}")
    assert why(world.build(task), "a") == (Explanation(Reason.EVICTED, "result"),)


def words_plan(world: World, words: str) -> ToyPlan:
    """Return a plan whose joins are known only from what `split` leaves."""
    split = toy("split", "multi_output", {"words": world.source("w", words)}, outputs=("list", "parts/*"))

    def grow(results: dict[str, object]) -> list[Task]:
        if "split" not in results:
            return []
        members = [name for name in results["split"].outputs if name.startswith("parts/")]  # type: ignore[attr-defined]
        return [toy(f"use {name}", "concat", {"part": OutputOf("split", name)}) for name in members]

    def defer(results: dict[str, object]) -> list[Deferred]:
        return [] if "split" in results else [Deferred("split", "one use per part")]

    return ToyPlan([split], grow, defer)  # type: ignore[arg-type]


def test_the_graph_grows_by_results(world: World) -> None:
    """Tasks that a result makes known are run, and on a null build all are known without running anything."""
    before = world.survey(plan=words_plan(world, "red green"))
    assert states(before) == {"split": State.WOULD_RUN}
    assert before.deferred == (Deferred("split", "one use per part"),)
    world.build(plan=words_plan(world, "red green"))
    assert world.ran() == ["split", "use parts/green", "use parts/red"]
    report = world.build(plan=words_plan(world, "red blue"))
    assert world.ran() == ["split", "use parts/blue"]
    assert report.complete
    after = world.survey(plan=words_plan(world, "red blue"))
    assert set(states(after).values()) == {State.CACHED}
    assert len(after.tasks) == 3


def test_survey_tells_and_does_nothing(world: World) -> None:
    """A survey says what would run and what cannot be said yet; nothing runs."""
    tasks = chain(world.source("s", "one"))
    report = world.survey(*tasks)
    assert states(report) == {"a": State.WOULD_RUN, "p": State.WAITING, "z": State.WAITING}
    assert why(report, "a") == (Explanation(Reason.NEW, "a"),)
    assert world.ran() == []
    world.build(*tasks)
    assert set(states(world.survey(*tasks)).values()) == {State.CACHED}


def test_only_builds_what_is_named_and_what_it_needs(world: World) -> None:
    """`only` leaves the rest alone, waits for tasks still unknown, and refuses a name that never comes."""
    plan = words_plan(world, "red green")
    report = world.build(plan=plan, only=["use parts/red"])
    assert world.ran() == ["split", "use parts/red"]
    assert set(states(report)) == {"split", "use parts/red"}
    with pytest.raises(UsageError, match="no task named `use parts/read`") as caught:
        world.build(plan=plan, only=["use parts/read"])
    assert caught.value.hint == "did you mean `use parts/red`?"


def test_events_come_in_order(world: World) -> None:
    """A display hears of the graph first, then of each task's start before its end."""
    world.build(toy("a", "concat", {"from": world.source("s", "one")}))
    kinds = [type(event) for event in world.events]
    assert kinds[0] is GraphGrew
    assert kinds.index(TaskStarted) < kinds.index(TaskFinished)
    world.events.clear()
    world.build(toy("a", "concat", {"from": world.source("s", "one")}))
    assert TaskStarted not in [type(event) for event in world.events]


def test_referenced_content_is_not_copied(world: World) -> None:
    """A step that leaves its input where it lies copies nothing; when that file goes, so does the result."""
    source = world.source("s", "one")
    task = toy("a", "pass_through", {"from": source})
    report = world.build(task)
    assert world.blob(report, "a") == source.path
    assert world.store.statistics().blobs == 0
    assert world.store.statistics().references == 1
    world.ran()
    source.path.rename(source.path.with_name("moved"))
    moved = SourceFile(source.path.with_name("moved"))
    again = world.build(toy("a", "pass_through", {"from": moved}))
    assert [part.reason for part in why(again, "a")] == [Reason.EVICTED]
    assert world.blob(again, "a") == moved.path


def test_plans_that_make_no_sense_are_refused(world: World) -> None:
    """A cycle, an input nobody makes and an unknown kind are errors of the plan, not of a task."""
    with pytest.raises(ValueError, match="wait for each other"):
        world.build(
            toy("a", "concat", {"from": OutputOf("b", "out")}), toy("b", "concat", {"from": OutputOf("a", "out")})
        )
    with pytest.raises(ValueError, match="is no task"):
        world.build(toy("a", "concat", {"from": OutputOf("b", "out")}))
    with pytest.raises(ValueError, match="leaves no `more`"):
        world.build(toy("b", "concat"), toy("a", "concat", {"from": OutputOf("b", "more")}))
    with pytest.raises(ValueError, match="unknown kind"):
        world.build(toy("a", "no such kind"))
