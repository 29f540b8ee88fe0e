"""The contract of executors, proved of all: fresh processes, forks of a nursery, and a dask cluster on this host."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from clusters import is_alive, order, wait_until
from conftest import World, states, toy
from toys import KINDS, LEDGER, PRELOADS, toolchain_of

from maxbuild.engine import OutputOf, SourceFile, State, Store, Task
from maxbuild.engine.cancelled import Cancelled
from maxbuild.engine.children import Children
from maxbuild.engine.distributed import open_executor
from maxbuild.engine.executor import Executor, LocalExecutor, Order
from maxbuild.errors import TaskFailed, WeightsError


@pytest.fixture(autouse=True)
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give steps of this host a ledger; workers have one of their own."""
    monkeypatch.setenv(LEDGER, str(tmp_path / "ledger"))
    monkeypatch.setenv(PRELOADS, str(tmp_path / "preloads"))


class NursedExecutor:
    """Carries out isolated steps on this host in forks of a nursery, whatever their kind."""

    def __init__(self) -> None:
        self._local = LocalExecutor()

    def run(self, order: Order, children: Children) -> Mapping[str, Path]:
        return self._local.run(order._replace(kind=order.kind._replace(preload="toys:preload")), children)

    def close(self) -> None:
        self._local.close()


@pytest.fixture(params=["local", "nursed", "dask"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    """Return one executor after the other."""
    if request.param != "dask":
        here = LocalExecutor() if request.param == "local" else NursedExecutor()
        yield here
        here.close()
        return
    running = request.getfixturevalue("workers")
    opened = open_executor(running.spec, request.getfixturevalue("sharing"), {})
    yield opened
    opened.close()


# What a step leaves


def test_outputs_are_files_of_this_host(executor: Executor, tmp_path: Path) -> None:
    """What a step leaves is handed back as files that hold it, and the inputs it read are those of the order."""
    job = order(tmp_path, "far_concat", {"b": "2", "a": "1", "c/d": "1"}, text="x")

    outputs = executor.run(job, Children())

    assert {name: path.read_text() for name, path in outputs.items()} == {"out": "x(1,2,1)"}
    assert all(path.is_relative_to(tmp_path) for path in outputs.values())


def test_families_come_back_whole(executor: Executor, tmp_path: Path) -> None:
    """A family of outputs keeps its names, also where two members hold the same bytes, and where one is empty."""
    job = order(tmp_path, "far_multi_output", {"words": "one two"})

    outputs = executor.run(job, Children())

    found = {name: path.read_text() for name, path in outputs.items()}
    assert found == {"list": "one two", "parts/one": "one", "parts/two": "two"}


def test_an_input_may_be_left_as_it_is(executor: Executor, tmp_path: Path) -> None:
    """A step may leave what it got, even if that is no byte at all."""
    for name, content in (("full", "some"), ("empty", "")):
        outputs = executor.run(order(tmp_path / name, "far_pass_through", {"from": content}), Children())

        assert outputs["out"].read_text() == content


def test_steps_have_their_surroundings(executor: Executor, tmp_path: Path) -> None:
    """A step runs in its scratch folder, in a process of its own, with sets in one order; what it prints is kept."""
    job = order(tmp_path, "far_environment")

    facts = executor.run(job, Children())["out"].read_text().split()

    assert facts[:2] == ["0", "True"]
    assert "hello from the child" in job.log.read_text()


def test_steps_see_nothing_of_their_executor(executor: Executor, tmp_path: Path) -> None:
    """What is local to a task is what the plan put there, and never what an executor needs for its own ends."""
    outputs = executor.run(order(tmp_path, "far_tell_local"), Children())

    assert outputs["out"].read_text() == ""


def test_two_run_at_once(executor: Executor, tmp_path: Path) -> None:
    """Two steps that wait for each other both come to their end."""
    marks = [str(tmp_path / "one"), str(tmp_path / "two")]
    jobs = [
        order(tmp_path / f"job-{mine[-3:]}", "far_meet", mine=mine, theirs=theirs)
        for mine, theirs in (marks, reversed(marks))
    ]
    with ThreadPoolExecutor(2) as threads:
        results = list(threads.map(lambda job: executor.run(job, Children()), jobs))

    assert [outputs["out"].read_text() for outputs in results] == ["met", "met"]


# How a step fails


def test_errors_of_ours_cross_over(executor: Executor, tmp_path: Path) -> None:
    """A step's own error arrives as what it was, with its causes; its hint is the log, which holds the traceback."""
    job = order(tmp_path, "far_fail_if", {"from": "bad"}, own=True)

    with pytest.raises(WeightsError) as caught:
        executor.run(job, Children())

    assert (caught.value.message, caught.value.causes) == ("the input is bad", ("it says so",))
    assert caught.value.hint == f"see the whole output in {job.log}"
    assert "Traceback" in job.log.read_text()


def test_accidents_are_failures_of_the_task(executor: Executor, tmp_path: Path) -> None:
    """Any other exception names the task and what was raised; a log of an earlier run is gone."""
    job = order(tmp_path, "far_fail_if", {"from": "bad"})
    job.log.write_text("yesterday")

    with pytest.raises(TaskFailed) as caught:
        executor.run(job, Children())

    assert (caught.value.message, caught.value.causes) == (f"task `{job.name}` failed", ("RuntimeError: bad input",))
    assert "RuntimeError: bad input" in job.log.read_text()
    assert "yesterday" not in job.log.read_text()


def test_a_step_that_dies_is_told_as_such(executor: Executor, tmp_path: Path) -> None:
    """A process that is killed fails its task, and says how it ended."""
    with pytest.raises(TaskFailed) as caught:
        executor.run(order(tmp_path, "far_crash"), Children())

    assert caught.value.causes == ("its process was killed by SIGKILL, most likely for want of memory",)


def test_the_executor_is_usable_after_failures(executor: Executor, tmp_path: Path) -> None:
    """What one task did wrong is nothing to the next."""
    for number in range(3):
        with pytest.raises(TaskFailed):
            executor.run(order(tmp_path / f"bad-{number}", "far_crash"), Children())

    assert executor.run(order(tmp_path / "good", "far_concat"), Children())["out"].read_text() == "()"


# How a step is stopped


def test_a_stopped_step_leaves_nothing_that_runs(executor: Executor, tmp_path: Path) -> None:
    """Told to stop, an executor raises Cancelled, and the step's process ends, wherever it is."""
    children, note, ends = Children(), tmp_path / "pid", []

    def carry_out() -> None:
        try:
            executor.run(order(tmp_path / "job", "far_hold", pid=str(note)), children)
        except BaseException as error:  # noqa: BLE001 - what it ends with is the question
            ends.append(type(error))

    thread = threading.Thread(target=carry_out)
    thread.start()
    wait_until(note.exists, "the step")
    pid = int(note.read_text())
    assert is_alive(pid)
    children.kill_all()
    thread.join(60)

    assert ends == [Cancelled]
    wait_until(lambda: not is_alive(pid), "the end of the step's process")


def test_nothing_starts_once_told_to_stop(executor: Executor, tmp_path: Path) -> None:
    """An order that comes after the end of a build is not carried out."""
    children = Children()
    children.kill_all()

    with pytest.raises(Cancelled):
        executor.run(order(tmp_path, "far_concat"), children)


# Whole builds


def far(name: str, kind: str, inputs: dict[str, SourceFile | OutputOf] | None = None, **params: str) -> Task:
    """Return a toy that may be carried out elsewhere: nothing of it is local."""
    return Task(name, f"far_{kind}", params, inputs or {}, toolchain_of(kind), ("out",))


def test_builds_come_out_alike(executor: Executor, world: World, tmp_path: Path) -> None:
    """A build has the keys and the content that it has with no executor named, and finds all done the second time."""
    source = world.source("a.txt", "alpha")
    tasks = [
        far("first", "concat", {"from": source}, text="1"),
        toy("here", "concat", {"from": OutputOf("first", "out")}, text="2"),
        far("last", "concat", {"from": OutputOf("here", "out")}, text="3"),
    ]
    plain = World(world.folder, Store(tmp_path / "plain"), world.ledger).build(*tasks)

    report = world.build(*tasks, executor=executor)

    assert world.content(report, "last") == "3(2(1(alpha)))"
    assert [task.key for task in report.tasks] == [task.key for task in plain.tasks]
    assert report.results == plain.results
    assert set(states(world.build(*tasks, executor=executor)).values()) == {State.CACHED}


def test_what_a_task_leaves_is_checked(executor: Executor, world: World) -> None:
    """A step that leaves something else than it declares fails in the same words, wherever it ran."""
    report = world.build(far("odd", "wrong", leaves="other"), executor=executor)

    (task,) = report.tasks
    assert task.state is State.FAILED
    assert task.error is not None
    assert task.error.causes == ("it did not leave `out`", "it left `other`, which it does not declare")


def test_scratch_is_left_empty(executor: Executor, world: World) -> None:
    """After a build, good or bad, nothing of its work is left in the store's scratch but the notes of the session."""
    world.build(far("good", "concat"), far("bad", "crash"), executor=executor, keep_going=True)

    scratch = world.store.base / "scratch"
    assert {path.name for path in scratch.rglob("*") if path.is_file()} <= {".clock", "claims"}
    assert {path.parent for path in scratch.rglob("*") if path.is_dir()} == {scratch}


def test_kinds_of_the_contract_travel() -> None:
    """What this suite proves of the cluster is carried out by the cluster: every kind in it names a toolchain."""
    assert all(kind.toolchain for name, kind in KINDS.items() if name.startswith("far_"))
