"""Nurseries: what they fork is like a fresh process, dies with who wants it, and is one where it must be."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from clusters import is_alive, order, wait_until
from conftest import World, states, toy
from toys import LEDGER, PRELOADS

from maxbuild.engine import State
from maxbuild.engine.cancelled import Cancelled
from maxbuild.engine.children import Children
from maxbuild.engine.executor import LocalExecutor, Order
from maxbuild.engine.lint import LintingExecutor
from maxbuild.errors import TaskFailed


@pytest.fixture(autouse=True)
def preloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file that names every nursery's process, one a line."""
    notes = tmp_path / "preloads"
    monkeypatch.setenv(PRELOADS, str(notes))
    monkeypatch.setenv(LEDGER, str(tmp_path / "ledger"))
    return notes


@pytest.fixture
def executor() -> Iterator[LocalExecutor]:
    """Return an executor of this host."""
    opened = LocalExecutor()
    yield opened
    opened.close()


def nurseries(notes: Path) -> list[int]:
    """Return the processes of all nurseries so far, but for a first line that says what befalls them."""
    return [int(line) for line in notes.read_text().splitlines() if line.isdigit()] if notes.exists() else []


def unnursed(given: Order) -> Order:
    """Return the order with a fresh process for its step."""
    return given._replace(kind=given.kind._replace(preload=None))


# Like a fresh process


def test_a_fork_is_like_a_fresh_process(executor: LocalExecutor, tmp_path: Path, preloads: Path) -> None:
    """Environment, folders, hash seed, flags, rights, limits, signals, threads, open files and streams are the same.

    What another task was given, or the nursery for itself, is in none of them; neither is what it drew of chance.
    """
    told, marks = {}, {"mine": str(tmp_path / "mine"), "theirs": str(tmp_path / "theirs")}
    with ThreadPoolExecutor(1) as threads:
        sibling = threads.submit(executor.run, order(tmp_path / "first", "nursed_meet", **marks), Children())
        wait_until(Path(marks["mine"]).exists, "the sibling")
        for name in ("fork", "fresh", "other"):
            given = order(tmp_path / "job", "nursed_surroundings")
            outputs = executor.run(unnursed(given) if name == "fresh" else given, Children())
            told[name] = json.loads(outputs["out"].read_text()), outputs["chance"].read_text().split()
            given.job.scratch.parent.parent.rename(tmp_path / name)
        Path(marks["theirs"]).touch()
        sibling.result()

    assert told["fork"][0] == told["fresh"][0]
    assert told["fork"][0]["environment"]["TMPDIR"].startswith(str(tmp_path / "job"))
    assert len({chance for _, (chance, _) in told.values()}) == 3
    parents = [int(parent) for _, (_, parent) in told.values()]
    assert parents == [*nurseries(preloads), os.getpid(), *nurseries(preloads)]


def test_a_log_holds_what_a_fresh_process_would_say(executor: LocalExecutor, tmp_path: Path) -> None:
    """What was said while importing is at the head of every log, and what a step says is in its own alone."""
    for name in ("one", "two"):
        given = order(tmp_path / name, "nursed_surroundings")
        executor.run(given, Children())
        assert given.log.read_text() == "heard while importing\nsaid by the step\n"


def test_changes_to_a_library_meet_nobody(executor: LocalExecutor, tmp_path: Path) -> None:
    """What a step changes of what was imported, no other step sees; what is to be settled is, in its own place."""
    for name in ("one", "two"):
        outputs = executor.run(order(tmp_path / name, "nursed_change_library"), Children())
        before = json.loads(outputs["out"].read_text())
        assert before == {"changed": 0, "settled in": str(tmp_path / name / "space" / "tmp")}


def test_what_a_step_leaves_running_ends_with_it(executor: LocalExecutor, tmp_path: Path) -> None:
    """Processes that a step started and did not wait for are killed once it is done."""
    outputs = executor.run(order(tmp_path, "nursed_leave_running"), Children())

    for pid in map(int, outputs["out"].read_text().split()):
        wait_until(lambda pid=pid: not is_alive(pid), "the end of what was left")


def test_many_run_at_once_from_one_nursery(executor: LocalExecutor, tmp_path: Path, preloads: Path) -> None:
    """Eight steps that wait for each other in a ring all come to their end, and import once."""
    marks = [str(tmp_path / f"mark-{number}") for number in range(8)]
    jobs = [
        order(tmp_path / f"job-{number}", "nursed_meet", mine=marks[number], theirs=marks[(number + 1) % 8])
        for number in range(8)
    ]
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda job: executor.run(job, Children()), jobs))

    assert [outputs["out"].read_text() for outputs in results] == ["met"] * 8
    assert len(nurseries(preloads)) == 1


@pytest.mark.parametrize("nursed", [True, False])
def test_a_process_that_left_the_group_holds_nobody_up(
    executor: LocalExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nursed: bool
) -> None:
    """A step is done when its own process is, also where a fork in another session has its descriptors and goes on."""
    monkeypatch.setattr("maxbuild.engine.isolation._PATIENCE", 0.2)
    given = order(tmp_path, "nursed_stray", pid=str(tmp_path / "pid"), wait=False)
    try:
        assert executor.run(given if nursed else unnursed(given), Children())["out"].read_text() == "done"
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


# No nursery where there is no use for one


def test_a_build_has_one_nursery_and_ends_it(world: World, preloads: Path) -> None:
    """Tasks of one build share a nursery, which is gone when the build is; with nothing to do none is started."""
    tasks = [toy(f"t{number}", "nursed_concat", text=str(number)) for number in range(3)]

    assert world.build(*tasks).complete
    (nursery,) = nurseries(preloads)
    assert not Path(f"/proc/{nursery}").exists()
    assert set(states(world.build(*tasks)).values()) == {State.CACHED}
    assert nurseries(preloads) == [nursery]


def test_kinds_that_follow_on_each_other_do_not_keep_their_memory(
    executor: LocalExecutor, tmp_path: Path, preloads: Path
) -> None:
    """A nursery that nothing runs from is ended when another is asked for; one that something runs from is not."""
    executor.run(order(tmp_path / "one", "nursed_concat"), Children())
    (first,) = nurseries(preloads)
    marks = {"mine": str(tmp_path / "mine"), "theirs": str(tmp_path / "theirs")}
    other = order(tmp_path / "two", "nursed_meet", **marks)
    other = other._replace(kind=other.kind._replace(preload="toys:other_preload"))
    with ThreadPoolExecutor(1) as threads:
        meeting = threads.submit(executor.run, other, Children())
        wait_until(Path(marks["mine"]).exists, "the step")
        _, second = nurseries(preloads)
        assert not is_alive(first)

        executor.run(order(tmp_path / "three", "nursed_concat"), Children())
        assert is_alive(second)
        Path(marks["theirs"]).touch()
        meeting.result()


def test_the_lint_watches_fresh_processes(tmp_path: Path, preloads: Path) -> None:
    """Where steps are started with a command of their own, as the lint does, no nursery is."""
    LintingExecutor(lambda _: None).run(order(tmp_path, "nursed_concat"), Children())

    assert nurseries(preloads) == []


# A nursery that fails


@pytest.mark.parametrize("fate", ["raise", "die", "thread"])
def test_without_a_nursery_steps_run_as_ever(
    executor: LocalExecutor, tmp_path: Path, preloads: Path, fate: str
) -> None:
    """Imports that fail, a death, or a thread that a fork would cut off: steps get fresh processes."""
    preloads.write_text(f"{fate}\n")
    for name in ("one", "two"):
        given = order(tmp_path / name, "nursed_surroundings")
        parent = int(executor.run(given, Children())["chance"].read_text().split()[1])

        assert parent == os.getpid()
        assert given.log.read_text() == "said by the step\n"
    assert len(nurseries(preloads)) == 1


def test_a_step_whose_nursery_dies_runs_again(executor: LocalExecutor, tmp_path: Path, preloads: Path) -> None:
    """It begins anew in a fresh process and an empty folder, once the first is gone; what comes next gets one too."""
    for name in ("one", "two"):
        given = order(tmp_path / name, "nursed_kill_nursery")
        assert executor.run(given, Children())["out"].read_text() == "done"

    assert len((tmp_path / "ledger").read_text().splitlines()) == 3
    assert len(nurseries(preloads)) == 1


def test_a_nursery_that_dies_idle_is_not_missed(executor: LocalExecutor, tmp_path: Path, preloads: Path) -> None:
    """A nursery killed between two steps lets the next one have a fresh process."""
    executor.run(order(tmp_path / "one", "nursed_concat"), Children())
    (nursery,) = nurseries(preloads)
    os.kill(nursery, signal.SIGKILL)
    wait_until(lambda: not is_alive(nursery), "the end of the nursery")

    assert executor.run(order(tmp_path / "two", "nursed_concat"), Children())["out"].read_text() == "()"


def test_a_step_that_may_still_run_is_not_run_beside(
    executor: LocalExecutor, tmp_path: Path, preloads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a nursery dies and something of a step stays, the task fails: nothing else is started in its folder."""
    monkeypatch.setattr("maxbuild.engine.isolation._PATIENCE", 0.2)
    note = tmp_path / "pid"
    with ThreadPoolExecutor(1) as threads:
        failing = threads.submit(executor.run, order(tmp_path, "nursed_stray", pid=str(note), wait=True), Children())
        wait_until(note.exists, "the step")
        (nursery,) = nurseries(preloads)
        os.kill(nursery, signal.SIGKILL)
        with pytest.raises(TaskFailed) as caught:
            failing.result(60)
    os.kill(int(note.read_text()), signal.SIGKILL)
    assert "does not end" in caught.value.causes[0]


# How it all ends


def test_an_interrupt_while_it_imports_ends_it(executor: LocalExecutor, tmp_path: Path, preloads: Path) -> None:
    """A build that is told to stop waits for no import."""
    preloads.write_text("hang\n")
    children, ends = Children(), []

    def carry_out() -> None:
        try:
            executor.run(order(tmp_path / "job", "nursed_concat"), children)
        except BaseException as error:  # noqa: BLE001 - what it ends with is the question
            ends.append(type(error))

    thread = threading.Thread(target=carry_out)
    thread.start()
    wait_until(lambda: bool(nurseries(preloads)), "the nursery")
    children.kill_all()
    thread.join(60)

    assert ends == [Cancelled]
    assert not Path(f"/proc/{nurseries(preloads)[0]}").exists()


@pytest.mark.parametrize("when", ["importing", "running", "stopped"])
def test_a_killed_builder_leaves_no_process(tmp_path: Path, preloads: Path, when: str) -> None:
    """When the builder is killed, its nursery ends, and so does what it has forked, even a process that is stopped."""
    kind, note = "nursed_stop" if when == "stopped" else "nursed_hold", tmp_path / "pid"
    if when == "importing":
        preloads.write_text("hang\n")
    code = f"""if True:
        from pathlib import Path
        from clusters import order
        from maxbuild.engine.children import Children
        from maxbuild.engine.executor import LocalExecutor
        LocalExecutor().run(order(Path("{tmp_path}/job"), "{kind}", pid="{note}"), Children())
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    builder = subprocess.Popen([sys.executable, "-c", code], env=environment)
    wait_until(lambda: bool(nurseries(preloads)) and (when == "importing" or note.exists()), "nursery and step")
    pids = nurseries(preloads) if when == "importing" else [int(note.read_text()), *nurseries(preloads)]
    assert all(map(is_alive, pids))

    builder.kill()
    builder.wait()

    wait_until(lambda: not any(map(is_alive, pids)), "the end of the nursery and its child")
