"""Builders side by side in one store: equal work is done once, and right even where nothing locks (G1, G2, G5)."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
from builders import PATIENCE, Builders, Built, Orders, until
from conftest import ToyPlan, World, states, toy
from toys import KINDS

from maxbuild.engine import OutputOf, Report, SourceFile, State, Store, Task, execute
from maxbuild.engine.cancelled import Cancelled
from maxbuild.engine.collect import collect
from maxbuild.engine.events import TaskWaits
from maxbuild.engine.holder import Holder, HolderState, read_holder
from maxbuild.engine.locks import Gate, try_lock, wait_lock
from maxbuild.errors import StoreError

CROWD = 8


def diamonds(source: SourceFile, depth: int = 4, tail: str = "") -> list[Task]:
    """Return a plan of diamonds, one below the other; what has no `tail` in its name is the same in every plan."""
    tasks = [toy("top", "concat", {"from": source})]
    for level in range(depth):
        above = {"from": OutputOf(tasks[-1].name, "out")}
        left = toy(f"left {level}", "slow", above, milliseconds=20, level=level)
        right = toy(f"right {level}", "concat", above, text=f"right {level}")
        sides = {"left": OutputOf(left.name, "out"), "right": OutputOf(right.name, "out")}
        tasks += [left, right, toy(f"join {level}", "concat", sides)]
    if tail:
        tasks.append(toy(f"tail {tail}", "concat", {"from": OutputOf(tasks[-1].name, "out")}, text=tail))
    return tasks


def clean_results(world: World, tasks: Sequence[Task]) -> dict[str, dict[str, str]]:
    """Return what a build in a fresh store leaves, and forget that it ran."""
    with Store(world.folder / "clean") as store:
        report = execute(ToyPlan(tasks), store, KINDS, scope="clean", jobs=2)
    world.ran()
    return digests(report)


def digests(report: Report) -> dict[str, dict[str, str]]:
    """Return the digests of a report as a builder tells them."""
    return {name: dict(result.outputs) for name, result in report.results.items()}


def assert_right(world: World, built: Sequence[Built], tasks: Sequence[Task]) -> None:
    """Assert that each builder ended well with what a clean build leaves, and so does one more."""
    clean = clean_results(world, tasks)
    for one in built:
        assert one.error is None, one.error
        assert one.results == {name: clean[name] for name in one.results}
    after = world.build(*tasks)
    assert digests(after) == clean
    assert all(world.blob(after, name).read_bytes() for name in clean)


def test_a_crowd_on_one_plan_runs_each_task_once(world: World, tmp_path: Path) -> None:
    """G2: eight builders of one plan share the work; for each task one of them says it built it."""
    tasks = diamonds(world.source("s", "one"))
    orders = [Orders(world.store.root, tasks)] * CROWD
    with Builders(orders, tmp_path / "built") as builders:
        built = builders.wait()
    assert world.ran() == sorted(task.name for task in tasks)
    for task in tasks:
        assert sorted(one.states[task.name] for one in built) == ["BUILT"] + ["CACHED"] * (CROWD - 1)
    assert [one.warnings for one in built] == [[]] * CROWD
    assert_right(world, built, tasks)
    assert world.ran() == []


def test_a_crowd_on_overlapping_plans_runs_what_they_share_once(world: World, tmp_path: Path) -> None:
    """G2: plans of other depths, tails and scopes, known by other names in each, still do the work they share once."""
    source = world.source("s", "one")
    plans = [diamonds(source, depth=2 + number % 3, tail=str(number % 4)) for number in range(CROWD)]
    orders = [Orders(world.store.root, plan, scope=f"plan {number}") for number, plan in enumerate(plans)]
    with Builders(orders, tmp_path / "built") as builders:
        built = builders.wait()
    depths = {(depth, tail) for depth, tail in ((2 + number % 3, number % 4) for number in range(CROWD))}
    shared = {task.name for plan in plans for task in plan if not task.name.startswith("tail")}
    assert world.ran() == sorted([*shared, *(f"tail {tail}" for _, tail in depths)])
    for one, plan in zip(built, plans, strict=True):
        assert_right(world, [one], plan)


def test_without_locks_the_outputs_are_right(world: World, tmp_path: Path) -> None:
    """Correctness does not rest on locks: where the file system has none, work is done twice at worst."""
    tasks = [*diamonds(world.source("s", "one")), toy("alone", "isolated", text="x")]
    codes = [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS]
    orders = [Orders(world.store.root, tasks, flock_error=codes[number % 3]) for number in range(CROWD)]
    with Builders(orders, tmp_path / "built") as builders:
        built = builders.wait()
    assert set(world.ran()) == {task.name for task in tasks}
    assert_right(world, built, tasks)


def test_builders_beside_a_collector_are_right(world: World, tmp_path: Path) -> None:
    """A collector that takes all it may, again and again, takes nothing a builder needs: all end well and right."""
    tasks = diamonds(world.source("s", "one"), depth=3)
    orders = [Orders(world.store.root, tasks, times=6)] * 3
    collections = 0
    with Builders(orders, tmp_path / "built") as builders:
        while builders.running:
            collect(world.store, max_size=0)
            collections += 1
        built = builders.wait()
    assert collections > 3
    assert max(Counter(world.ran()).values()) <= len(orders)  # what a builder has once built or found stays for it
    assert_right(world, built, tasks)


HOLD = """
import signal, sys, threading
from pathlib import Path
from maxbuild.engine.locks import wait_lock
lock = wait_lock(Path(sys.argv[1]), threading.Event())
print("held" if lock else "not held", flush=True)
signal.pause()
"""


@contextmanager
def holding(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Have another process hold the lock `path`."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_killed_holder_is_taken_over_in_under_a_second(tmp_path: Path) -> None:
    """G5: the kernel gives the lock of a dead process back, and who waits asks often enough (best of three)."""
    killed, taken = [], []
    for number in range(3):
        path = tmp_path / f"lock {number}"
        with holding(path) as process:

            def kill(process: subprocess.Popen[str] = process) -> None:
                killed.append(time.monotonic())
                process.kill()

            threading.Timer(1.35, kill).start()  # by then, the waiter asks as seldom as it ever does
            with wait_lock(path, threading.Event()) or pytest.fail("no lock"):
                taken.append(time.monotonic())
    seconds = [after - before for before, after in zip(killed, taken, strict=True)]
    assert min(seconds) < 1


def test_a_killed_builder_is_taken_over_whatever_it_leaves_running(world: World, tmp_path: Path) -> None:
    """G5: neither a command nor a fork of a killed builder keeps its lock."""
    pids = tmp_path / "pids"
    tasks = [toy("a", "orphans", local={"pids": str(pids)})]
    orders = [Orders(world.store.root, tasks)]
    with Builders(orders, tmp_path / "first") as first:
        until(pids.exists)
        orphans = [int(pid) for pid in pids.read_text().split()]
        try:
            with Builders(orders, tmp_path / "second") as second:
                os.kill(first.pids[0], signal.SIGKILL)
                built = second.wait()
            for pid in orphans:
                os.kill(pid, 0)  # they live still
        finally:
            for pid in orphans:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    assert world.ran() == ["a", "a"]
    assert built[0].states == {"a": "BUILT"}


def test_a_stopped_holder_is_named_with_its_pid(tmp_path: Path) -> None:
    """Who waits learns who holds the lock, once, and again when that one is stopped or woken up."""
    path, stop = tmp_path / "lock", threading.Event()
    told: list[Holder] = []
    with holding(path) as process:

        def waited() -> None:
            wait_lock(path, stop, told.append, patience=0)

        waiter = threading.Thread(target=waited)
        waiter.start()
        for count, change in enumerate((signal.SIGCONT, signal.SIGSTOP, signal.SIGCONT), start=1):
            process.send_signal(change)
            until(lambda count=count: len(told) == count)  # type: ignore[misc]
        stop.set()
        waiter.join()
        assert read_holder(path) == told[0]
    states = [HolderState.BUSY, HolderState.STOPPED, HolderState.BUSY]
    assert told == [Holder(process.pid, os.uname().nodename, state) for state in states]
    assert told[0].describe() == f"process {process.pid}, which has the task"
    assert told[1].describe() == f"process {process.pid}, which is stopped (`kill -CONT {process.pid}` wakes it up)"


def test_a_build_that_waits_for_a_stopped_one_says_so(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A display learns which task waits, and for whom; it goes on when that one is woken up."""
    monkeypatch.setattr("maxbuild.engine.store.wait_lock", partial(wait_lock, patience=0))
    go_on = tmp_path / "go on"
    task = toy("a", "held", local={"until": str(go_on)})
    reports: list[Report] = []
    with Builders([Orders(world.store.root, [task])], tmp_path / "built") as builders:
        until(world.ledger.exists)
        os.kill(builders.pids[0], signal.SIGSTOP)
        go_on.touch()
        waiter = threading.Thread(target=lambda: reports.append(world.build(task)))
        waiter.start()
        stopped = TaskWaits("a", Holder(builders.pids[0], os.uname().nodename, HolderState.STOPPED))
        until(lambda: stopped in world.events)
        os.kill(builders.pids[0], signal.SIGCONT)
        waiter.join(PATIENCE)
    assert states(reports[0]) == {"a": State.CACHED}
    assert world.ran() == ["a"]


def test_a_patient_waiter_is_told_nothing(tmp_path: Path) -> None:
    """A lock that is given back soon is not worth a word."""
    path = tmp_path / "lock"
    told: list[Holder] = []
    held = try_lock(path)
    assert held is not None
    threading.Timer(0.2, held.release).start()
    with wait_lock(path, threading.Event(), told.append) or pytest.fail("no lock"):
        assert told == []


@pytest.mark.parametrize("note", [b"", b"1 2", b"x y z\n", b"\xff\xfe\n", b"1 2 3 4\n", b"-1 0 h\n"])
def test_a_note_that_says_nothing_names_nobody_and_harms_nobody(tmp_path: Path, note: bytes) -> None:
    """A note in a lock file is for people: a torn or forged one names no process that runs here."""
    path = tmp_path / "lock"
    path.write_bytes(note)
    holder = read_holder(path)
    assert holder is None or holder.state is HolderState.UNSEEN
    assert read_holder(tmp_path / "none") is None
    with wait_lock(path, threading.Event()) or pytest.fail("no lock"):
        signed = read_holder(path)
        assert signed == Holder(os.getpid(), os.uname().nodename, HolderState.BUSY)
        assert signed.describe() == "an equal task of this build"


def test_a_pid_that_was_given_again_is_not_taken_for_the_holder(tmp_path: Path) -> None:
    """A process is its number and its start time: another with the number, or on another host, is not the holder."""
    path = tmp_path / "lock"
    path.write_text(f"{os.getpid()} 1 {os.uname().nodename}\n")
    holder = read_holder(path)
    assert holder is not None
    assert holder.state is HolderState.UNSEEN
    with wait_lock(path, threading.Event()) or pytest.fail("no lock"):
        elsewhere = path.read_text().replace(os.uname().nodename, "elsewhere")
        path.write_text(elsewhere)
        holder = read_holder(path)
        assert holder is not None
        assert holder.describe() == f"process {os.getpid()} on `elsewhere`, which cannot be seen from here"


def test_a_forked_child_neither_keeps_nor_gives_back_its_parents_lock(tmp_path: Path) -> None:
    """A lock is the process's that took it: a child's end leaves it held, and its life does not hold it."""
    path = tmp_path / "lock"
    code = """
import os, sys, time
from pathlib import Path
from maxbuild.engine.locks import try_lock
path = Path(sys.argv[1])
with try_lock(path):
    pid = os.fork()
    if pid == 0:
        sys.exit(0)  # through the `with` block
    os.waitpid(pid, 0)
    assert path.exists()
    assert try_lock(path) is None
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    print(pid, flush=True)
    os._exit(0)  # the lock file stays, as after a kill
"""
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        try:
            assert parent.wait() == 0
            assert path.exists()
            with wait_lock(path, threading.Event()) or pytest.fail("no lock"):
                os.kill(child, 0)  # it lives still
        finally:
            os.kill(child, signal.SIGKILL)
    assert not path.exists()


def inside(gate: Gate, stop: threading.Event, log: list[str]) -> None:
    """Go in and out of `gate` until told to stop, and note it."""
    while not stop.is_set():
        with gate.shared():
            log.append("in")
            time.sleep(0.02)
            log.append("out")


def test_a_gate_lets_in_many_together_or_one_alone(tmp_path: Path) -> None:
    """However many come and go all the time, one who wants to be alone gets in soon, and is alone."""
    gate, stop, enough = Gate(tmp_path / "gate"), threading.Event(), threading.Event()
    log: list[str] = []
    crowd = [threading.Thread(target=inside, args=(gate, stop, log)) for _ in range(CROWD)]
    for thread in crowd:
        thread.start()
    patience = threading.Timer(PATIENCE / 2, enough.set)
    patience.start()
    try:
        until(lambda: log.count("in") - log.count("out") > 1)  # together
        for _ in range(3):
            with Gate(tmp_path / "gate").exclusive(enough):
                seen = list(log)
                time.sleep(0.05)
                assert log == seen
                assert seen.count("in") == seen.count("out")
    finally:
        patience.cancel()
        stop.set()
        for thread in crowd:
            thread.join()


def test_who_is_inside_a_gate_passes_again(tmp_path: Path) -> None:
    """A thread never waits for itself, nor for one who waits for it."""
    gate, stop, enough = Gate(tmp_path / "gate"), threading.Event(), threading.Event()
    alone: list[str] = []

    def be_alone() -> None:
        with gate.exclusive(), gate.shared(enough):
            alone.append("alone")

    with gate.shared():
        waiter = threading.Thread(target=be_alone)
        waiter.start()
        time.sleep(0.1)
        patience = threading.Timer(PATIENCE / 2, enough.set)
        patience.start()
        with gate.shared(enough):
            assert alone == []
        patience.cancel()
        with pytest.raises(AssertionError), gate.exclusive():
            pass
        stop.set()
        with pytest.raises(Cancelled), Gate(tmp_path / "gate").exclusive(stop):
            pass
    waiter.join()
    assert alone == ["alone"]


def test_a_gate_holds_between_processes_and_outlives_none(tmp_path: Path) -> None:
    """Another process's hold counts, and ends with that process."""
    code = """
import signal, sys
from pathlib import Path
from maxbuild.engine.locks import Gate
with Gate(Path(sys.argv[1])).shared():
    print("inside", flush=True)
    signal.pause()
"""
    path = tmp_path / "gate"
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        stop = threading.Event()
        threading.Timer(0.1, stop.set).start()
        with pytest.raises(Cancelled), Gate(path).exclusive(stop):
            pass
        with Gate(path).shared():
            pass
        other.kill()
    with Gate(path).exclusive():
        pass


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_gate_on_a_read_only_disk_stands_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Who may only read passes without a lock; to be alone there is refused."""
    gate = Gate(tmp_path / "gate")

    def refuse(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StoreError, match="could not lock"), gate.shared():  # it could be written, and is in the way
        pass
    monkeypatch.setattr(os, "access", lambda *_: False)
    with gate.shared():
        pass
    with pytest.raises(StoreError, match="could not lock"), gate.exclusive():
        pass


@pytest.mark.parametrize("together", ["one store", "a store each"])
def test_two_threads_of_one_process_share_the_work(world: World, together: str) -> None:
    """G2: two builds in one process, over one open store or two, run each task once."""
    tasks = [*diamonds(world.source("s", "one"), depth=3), toy("alone", "isolated", text="x")]
    stores = [world.store, world.store if together == "one store" else Store(world.store.root)]
    reports: list[Report] = []
    threads = [
        threading.Thread(
            target=lambda store=store: reports.append(execute(ToyPlan(tasks), store, KINDS, scope="t", jobs=2))  # type: ignore[misc]
        )
        for store in stores
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [report.complete for report in reports] == [True, True]
    assert world.ran() == sorted(task.name for task in tasks)
    for task in tasks:
        both = sorted(next(part.state for part in report.tasks if part.name == task.name) for report in reports)
        assert both == [State.BUILT, State.CACHED]


def test_an_index_that_breaks_under_a_crowd_is_set_aside_once(world: World, tmp_path: Path) -> None:
    """G6: builders whose index another builder has set aside go over to the new one; one warning, and all is right."""
    tasks = diamonds(world.source("s", "one"), depth=3)
    until_broken = tmp_path / "broken"
    waits = toy("waits", "held", {"from": OutputOf("top", "out")}, local={"until": str(until_broken)})
    orders = [Orders(world.store.root, [*tasks, waits])] * 4
    with Builders(orders, tmp_path / "built") as builders:
        until(lambda: "waits" in (world.ledger.read_text() if world.ledger.exists() else ""))
        until(lambda: "join 2" in world.ledger.read_text())
        with ExitStack() as files:  # all opened first: one that is set aside meanwhile must not lead to the new one
            index = world.store.root / "v1" / "index"
            for file in [files.enter_context(path.open("r+b", buffering=0)) for path in index.iterdir()]:
                file.write(b"not a database at all" * 2000)  # in place, as a stray writer would
        until_broken.touch()
        built = builders.wait()
    assert len(list((world.store.root / "v1").glob("index.broken-*"))) == 1
    assert sum(len(one.warnings) for one in built) == 1
    assert_right(world, built, [*tasks, waits])


def test_a_build_that_ends_leaves_the_scratch_of_its_neighbour(world: World, tmp_path: Path) -> None:
    """Two builds over one open store: the end of one takes nothing away from the other."""
    go_on = tmp_path / "go on"
    reports: list[Report] = []
    slow = [toy("slow", "held", local={"until": str(go_on)})]
    neighbour = threading.Thread(
        target=lambda: reports.append(execute(ToyPlan(slow), world.store, KINDS, scope="t", jobs=1))
    )
    neighbour.start()
    until(world.ledger.exists)
    assert world.build(toy("quick", "concat", text="x")).complete
    go_on.touch()
    neighbour.join()
    assert reports[0].complete
