"""How tasks run, fail, are isolated, stopped and given back when an input is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import ToyPlan, World, states, toy, why
from toys import KINDS

from maxbuild.engine import (
    Event,
    OutputOf,
    Reason,
    SourceFile,
    State,
    Store,
    TaskFinished,
    TaskProgress,
    TaskStarted,
    execute,
)
from maxbuild.errors import StoreError, TaskFailed, WeightsError


def test_an_isolated_task_has_a_process_of_its_own(world: World) -> None:
    """Its hash seed is fixed, its folder is its scratch, what it prints is in its log."""
    report = world.build(toy("e", "environment"))
    seed, in_scratch, process = world.content(report, "e").split()
    assert (seed, in_scratch) == ("0", "True")
    assert int(process) != os.getpid()
    log = report.tasks[0].log
    assert log is not None
    assert log.read_text() == "hello from the child\n"


def test_isolated_and_threaded_tasks_leave_the_same(world: World) -> None:
    """Where a step runs does not matter to what it leaves; progress comes from both."""
    source = world.source("s", "one")
    report = world.build(
        toy("a", "concat", {"from": source}, text="x"), toy("b", "isolated", {"from": source}, text="x")
    )
    assert report.results["a"] == report.results["b"]
    assert {event.name for event in world.events if isinstance(event, TaskProgress)} == {"a", "b"}


@pytest.mark.parametrize("own", [True, False])
def test_failures_are_never_cached(world: World, own: bool) -> None:
    """A failed task runs again, with the reason it had; what consumes from it is skipped."""
    tasks = [
        toy("f", "fail_if", {"from": world.source("s", "bad")}, own=own),
        toy("z", "concat", {"from": OutputOf("f", "out")}),
    ]
    for _ in range(2):
        report = world.build(*tasks)
        assert world.ran() == ["f"]
        assert states(report) == {"f": State.FAILED, "z": State.SKIPPED}
        assert why(report, "f")[0].reason is Reason.NEW
    error = report.tasks[0].error
    assert isinstance(error, WeightsError if own else TaskFailed)
    assert error.causes == (("it says so",) if own else ("RuntimeError: bad input",))
    assert "log" in str(error.hint)
    world.source("s", "fine")
    assert world.build(*tasks).complete


def test_the_first_failure_lets_nothing_start(world: World) -> None:
    """Without keep_going a failure leaves the rest unstarted; with it, all that can be built is."""
    tasks = [
        toy("f", "fail_if", {"from": world.source("s", "bad")}),
        toy("g", "concat", {"from": world.source("t", "x")}),
        toy("h", "concat", {"from": OutputOf("g", "out")}),
    ]
    report = world.build(*tasks, jobs=1)
    assert states(report) == {"f": State.FAILED, "g": State.WOULD_RUN, "h": State.WAITING}
    report = world.build(*tasks, jobs=1, keep_going=True)
    assert states(report) == {"f": State.FAILED, "g": State.BUILT, "h": State.BUILT}


def test_a_dead_process_is_named(world: World) -> None:
    """Death by a signal says which, and where the log is."""
    report = world.build(toy("c", "crash"))
    error = report.tasks[0].error
    assert isinstance(error, TaskFailed)
    assert error.causes == ("its process was killed by SIGKILL, most likely for want of memory",)
    assert str(report.tasks[0].log) in str(error.hint)


@pytest.mark.parametrize("kind", ["disk_full", "isolated_full"])
def test_a_step_on_a_full_disk_is_a_store_error(world: World, kind: str) -> None:
    """A full disk ends the build with one StoreError, wherever it is met."""
    with pytest.raises(StoreError) as caught:
        world.build(toy("d", kind), toy("e", kind, text="2"))
    assert caught.value.exit_code == 4
    assert "bytes are free" in caught.value.causes[-1]


def test_a_missing_source_is_a_failed_task(world: World) -> None:
    """The file is named, in a build and in a survey."""
    task = toy("a", "concat", {"from": SourceFile(world.folder / "nowhere")})
    for report in (world.build(task), world.survey(task)):
        assert states(report) == {"a": State.FAILED}
        assert "nowhere" in str(report.tasks[0].error)
    assert world.ran() == []


def test_a_source_that_changes_meanwhile_is_not_published(world: World) -> None:
    """No result lies under a key whose inputs it did not have."""
    source = world.source("s", "before")
    task = toy("s", "spoil", {"from": source}, local={"victim": str(source.path)})
    report = world.build(task)
    assert "changed while the task ran" in str(report.tasks[0].error)
    world.source("s", "before")
    assert states(world.survey(task)) == {"s": State.WOULD_RUN}


def test_a_step_must_leave_what_is_declared(world: World) -> None:
    """Missing and undeclared outputs are the task's failure."""
    report = world.build(toy("w", "wrong", outputs=("out", "parts/*"), leaves="more"))
    error = report.tasks[0].error
    assert error is not None
    assert error.causes[0] == "it did not leave `out`"
    assert "does not declare" in error.causes[1]


def test_jobs_bound_what_runs_at_once(world: World) -> None:
    """Never more tasks run at once than jobs, and as many as that do."""
    running, most = set(), 0

    def watch(event: Event) -> None:
        nonlocal most
        if isinstance(event, TaskStarted):
            running.add(event.name)
        elif isinstance(event, TaskFinished):
            running.discard(event.report.name)
        most = max(most, len(running))

    tasks = [toy(f"t{number}", "slow", milliseconds=50, number=number) for number in range(5)]
    assert world.build(*tasks, jobs=2, on_event=watch).complete
    assert most == 2


@pytest.mark.parametrize("kind", ["slow", "isolated_slow"])
def test_an_interrupt_stops_everything(world: World, kind: str) -> None:
    """Ctrl-C ends running tasks soon, removes their scratch, and the next build goes on."""
    tasks = [
        toy("a", "concat", text="done before"),
        toy("t", kind, {"from": OutputOf("a", "out")}, milliseconds=60_000),
        toy("z", "concat", {"from": OutputOf("t", "out")}),
    ]
    before = set(threading.enumerate())

    def interrupt(event: Event) -> None:
        if isinstance(event, TaskProgress) and event.name == "t":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

    begin = time.monotonic()
    report = world.build(*tasks, on_event=interrupt)
    assert time.monotonic() - begin < 5
    assert report.interrupted
    assert states(report) == {"a": State.BUILT, "t": State.INTERRUPTED, "z": State.WAITING}
    world.store.close()
    assert [path.name for path in (world.store.root / "v1" / "scratch").iterdir() if path.is_dir()] == []
    assert set(threading.enumerate()) <= before
    world.ran()
    tasks[1] = toy("t", kind, {"from": OutputOf("a", "out")}, milliseconds=10)
    assert world.build(*tasks).complete
    assert world.ran() == ["t", "z"]


def test_a_child_dies_with_its_parent(world: World, tmp_path: Path) -> None:
    """When the builder is killed, its isolated tasks end and leave no result; their scratch is swept later."""
    builder = _builder(tmp_path, world, [("t", "isolated_slow", "milliseconds=60_000, quiet=True")])
    scratch = world.store.root / "v1" / "scratch"
    _until(world.ledger.exists)
    assert [path for path in scratch.iterdir() if path.is_dir()]
    builder.kill()
    builder.communicate()
    _until(lambda: not _alive(str(world.store.root)))
    assert world.build(toy("a", "concat")).complete
    world.store.close()
    assert [path for path in scratch.iterdir() if path.is_dir()] == []


def test_two_builders_share_the_work(world: World, tmp_path: Path) -> None:
    """Two processes on one store run each task once and end with the same results."""
    tasks = [(f"t{number}", "isolated_slow", f"milliseconds=100, number={number}") for number in range(4)]
    builders = [_builder(tmp_path / str(number), world, tasks) for number in range(2)]
    answers = [builder.communicate(timeout=60)[0] for builder in builders]
    assert [builder.returncode for builder in builders] == [0, 0]
    assert answers[0] == answers[1] != b""
    assert world.ran() == ["t0", "t1", "t2", "t3"]


def test_a_corrupt_blob_is_quarantined_and_made_again(world: World) -> None:
    """G6: damage shows when the blob is next looked at, and the producer alone runs, as corrupt."""
    tasks = [toy("a", "concat", text="x"), toy("z", "concat", {"from": OutputOf("a", "out")})]
    report = world.build(*tasks)
    world.ran()
    _damage(world.blob(report, "a"))
    report = world.build(*tasks)
    assert world.ran() == ["a"]
    assert [part.reason for part in why(report, "a")] == [Reason.CORRUPT]
    assert world.content(report, "a") == "x()"
    assert world.store.statistics().quarantined == 1
    world.blob(report, "a").unlink()
    assert [part.reason for part in why(world.build(*tasks), "a")] == [Reason.EVICTED]


@pytest.mark.parametrize("damage", [True, False])
def test_a_blob_lost_during_the_build_is_made_again(world: World, damage: bool) -> None:
    """G6: a consumer that finds its input gone sends the producer to work again."""
    tasks = [
        toy("a", "concat", text="x"),
        toy("other", "slow", milliseconds=30),
        toy("z", "concat", {"a": OutputOf("a", "out"), "other": OutputOf("other", "out")}),
    ]

    def lose(event: Event) -> None:
        if isinstance(event, TaskFinished) and event.report.name == "other":
            path = world.store.blob_path(made["a"])
            assert path is not None
            _damage(path) if damage else path.unlink()

    made = {name: result.outputs["out"] for name, result in world.build(tasks[0]).results.items()}
    world.ran()
    report = world.build(*tasks, on_event=lose)
    assert world.ran() == ["a", "other", "z"]
    assert [part.reason for part in why(report, "a")] == [Reason.CORRUPT if damage else Reason.EVICTED]
    assert report.complete


def test_a_lost_input_of_a_waiting_task_is_found_by_its_worker(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """G6: what is lost between the look-up and the run is found before the run, and mended."""
    a, z = toy("a", "concat", text="x"), toy("z", "concat", {"from": OutputOf("a", "out")})
    report = world.build(a)
    world.ran()
    damaged: list[Path] = []
    lock = Store.lock

    def damage_first(store: Store, *arguments: object) -> object:
        if not damaged:
            damaged.append(world.blob(report, "a"))
            _damage(damaged[0])
        return lock(store, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "lock", damage_first)
    again = world.build(a, z)
    assert world.ran() == ["a", "z"]
    assert [part.reason for part in why(again, "a")] == [Reason.CORRUPT]
    assert again.complete


def _damage(path: Path) -> None:
    path.chmod(0o644)
    path.write_text("damaged")


def _builder(folder: Path, world: World, tasks: list[tuple[str, str, str]]) -> subprocess.Popen[bytes]:
    """Start a process that builds toys in the world's store and prints the digests of its results."""
    folder.mkdir(exist_ok=True)
    listed = ", ".join(f"toy({name!r}, {kind!r}, {params})" for name, kind, params in tasks)
    script = folder / "builder.py"
    script.write_text(
        "from pathlib import Path\n"
        "from conftest import ToyPlan, toy\n"
        "from maxbuild.engine import Store, execute\n"
        "from toys import KINDS\n"
        f"plan = ToyPlan([{listed}])\n"
        f"report = execute(plan, Store(Path({str(world.store.root)!r})), KINDS, scope='other', jobs=2)\n"
        "print(sorted((name, result.outputs['out']) for name, result in report.results.items()))\n"
        "raise SystemExit(not report.complete)\n"
    )
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    return subprocess.Popen(
        [sys.executable, str(script)], env={**os.environ, "PYTHONPATH": paths}, stdout=subprocess.PIPE
    )


def _until(condition: object) -> None:
    deadline = time.monotonic() + 20
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _alive(text: str) -> bool:
    """Return whether a worker works under the folder `text`."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str((process / "cwd").readlink()).startswith(text):
                return True
        except OSError:
            continue
    return False


def test_execute_wants_a_job(world: World) -> None:
    """No jobs is a mistake of the caller."""
    with pytest.raises(ValueError, match="at least one job"):
        execute(ToyPlan([]), world.store, KINDS, scope="x", jobs=0)
