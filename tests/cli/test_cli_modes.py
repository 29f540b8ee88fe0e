"""`warm` with its modes: `--check`, `--frozen`, `--rerun`, `--memory`, and help from a remote cache."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import toyplans
import typer
from cli_world import ROOT, WISHES, Maxbuild, World
from syrupy.assertion import SnapshotAssertion
from toyplans import KINDS, Toy

from maxbuild.cli.building import Wishes, build, spoken_command
from maxbuild.cli.check import tell_check
from maxbuild.cli.helpers import open_sharing
from maxbuild.cli.memory import memory_for_builds, parse_memory
from maxbuild.engine import Digest, Job, Result, State, Store, Task, TaskWaits
from maxbuild.engine.holder import Holder, HolderState
from maxbuild.engine.journal import newest_run
from maxbuild.errors import UsageError, render
from maxbuild.manifest import load_manifest
from maxbuild.plan import make_plan
from maxbuild.report.progress import PlainLines, show_progress
from maxbuild.report.terminal import Terminal

Steady = Callable[[str], str]
Capture = pytest.CaptureFixture[str]

SOCKETS = (
    "import os, sys\n"
    "def watch(event, arguments):\n"
    "    if event.startswith('socket.') and event != 'socket.gethostname':\n"
    "        os.write(2, f'{event} {arguments}'.encode()); os._exit(99)\n"
    "sys.addaudithook(watch)\n"
    "from maxbuild.cli import main\n"
    "sys.exit(main(sys.argv[1:]))\n"
)
"""The real command, which dies with 99 at the first socket."""


def check(world: World, unplaced: tuple[Path, ...] = (), *, json: bool = False) -> int:
    """Say what `warm --check` says, and return its exit code."""
    try:
        tell_check(world.survey(), unplaced, "toy", 0.25, json=json)
    except typer.Exit as done:
        return done.exit_code
    return 0


def without_sockets(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the real command, which must open no socket."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "MAXBUILD_STORE": str(cwd / "store"), **environment}
    return subprocess.run(
        [sys.executable, "-c", SOCKETS, *arguments],
        cwd=cwd,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("change", ["nothing was built", "a parameter", "the weights", "both"])
def test_check_lists_what_would_run(
    change: str, world: World, steady: Steady, snapshot: SnapshotAssertion, capsys: Capture
) -> None:
    """With work to do the list of it is on stdout, with reasons, and the code is 3."""
    if change != "nothing was built":
        world.warm()
    if change in ("a parameter", "both"):
        world.replan(length=1024)
    if change in ("the weights", "both"):
        world.edit("weights", "7 8 9")
    capsys.readouterr()
    before = world.store.statistics().results
    assert check(world) == 3
    assert steady(capsys.readouterr().out) == snapshot
    assert world.store.statistics().results == before


def test_check_with_nothing_to_do_is_0(world: World, steady: Steady, capsys: Capture) -> None:
    """When all is done and placed, one line says so."""
    world.warm()
    capsys.readouterr()
    assert check(world) == 0
    assert steady(capsys.readouterr().out) == "nothing to do: 5 tasks cached (#.## s)\n"


def test_check_counts_packages_that_are_not_placed(world: World, snapshot: SnapshotAssertion, capsys: Capture) -> None:
    """A package that `warm` would place is work too, though no task would run."""
    world.warm()
    capsys.readouterr()
    assert check(world, (Path("packages/toy/cpu"),)) == 3
    assert capsys.readouterr().out == snapshot


def test_check_leaves_no_journal(world: World) -> None:
    """What ran nothing is no run."""
    check(world)
    assert newest_run(world.store) is None


def test_check_tells_what_cannot_be_told(world: World, capsys: Capture) -> None:
    """A source that cannot be read is an error (1), not work (3)."""
    (world.folder / "weights").unlink()
    assert check(world) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_check_document(world: World, capsys: Capture) -> None:
    """The document says whether all is up to date, and which packages are not in place."""
    world.warm()
    capsys.readouterr()
    assert check(world, (Path("packages/toy/cpu"),), json=True) == 3
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["up_to_date"]) == ("maxbuild.check.v1", False)
    assert document["to_place"] == ["packages/toy/cpu"]
    assert check(world, json=True) == 0
    assert json.loads(capsys.readouterr().out)["up_to_date"] is True


def hub_manifest(folder: Path) -> Path:
    """Write a manifest of two hub models."""
    path = folder / "hub.yaml"
    path.write_text(
        "version: 1\nname: hub\ntargets: ['cpu:x86-64-v3']\n"
        "models: {main: {model_path: org/model}, draft: {model_path: org/draft, huggingface_model_revision: v2}}\n"
        "speculative: {speculative_method: standalone, num_speculative_tokens: 4}\n"
    )
    return path


def lock_manifest(manifest: Path) -> None:
    """Pin the models of `hub_manifest`."""
    files = {name: {"size": 2, "git_oid": "0" * 40} for name in ("config.json", "tokenizer.json")}
    weights = {"model.safetensors": {"size": 9, "sha256": "1" * 64}}
    one = {"commit": "2" * 40, "files": {**files, **weights}}
    lock = {"schema": "maxbuild.lock.v1", "repositories": {"org/model@main": one, "org/draft@v2": one}}
    manifest.with_suffix(".lock").write_text(json.dumps(lock))


def test_check_of_unpinned_models_asks_no_hub(tmp_path: Path, snapshot: SnapshotAssertion) -> None:
    """A revision that the lock does not pin is work, told without a socket; the same manifest makes `plan` open one."""
    manifest = hub_manifest(tmp_path)
    done = without_sockets("warm", str(manifest), "--check", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (3, "", snapshot)
    asked = without_sockets("plan", str(manifest), cwd=tmp_path, HF_ENDPOINT="http://127.0.0.1:9", HF_HUB_OFFLINE="0")
    assert asked.returncode == 99
    assert "socket." in asked.stderr
    assert not manifest.with_suffix(".lock").exists()


def test_check_of_pinned_models_opens_no_socket(tmp_path: Path) -> None:
    """With a lock, what would be downloaded is listed, and nothing is."""
    manifest = hub_manifest(tmp_path)
    lock_manifest(manifest)
    done = without_sockets("warm", str(manifest), "--check", cwd=tmp_path, MAXBUILD_REMOTE="https://127.0.0.1:9/")
    assert (done.returncode, done.stderr) == (3, "")
    # Three downloads of each model, the samplers, and the closing line.
    assert done.stdout.count("would build") == 8
    assert "after trace draft: compile × regions of draft × 1 target" in done.stdout


def test_frozen_with_unpinned_models_is_3(maxbuild: Maxbuild, tmp_path: Path) -> None:
    """--frozen does not pin anything either."""
    done = maxbuild("warm", str(hub_manifest(tmp_path)), "--frozen")
    assert done.returncode == 3
    assert done.stderr.startswith("error: 2 revisions are not pinned\n")
    assert list(tmp_path.glob("*.lock")) == []


@pytest.mark.slow
def test_check_of_the_demo(demo_package: Path, shared_store: Path, tmp_path: Path) -> None:
    """The real command over a real build: nothing to do is 0; a lost, a damaged and another package are 3."""
    manifest, packages = str(ROOT / "manifests" / "demo.yaml"), demo_package.parent.parent

    def code(output: Path, *more: str) -> int:
        done = without_sockets(
            "warm", manifest, "--check", "--output", str(output), *more, cwd=tmp_path, MAXBUILD_STORE=str(shared_store)
        )
        assert ("nothing to do" in done.stdout) == (done.returncode == 0), done.stderr
        return done.returncode

    assert code(packages) == 0
    assert code(tmp_path / "elsewhere") == 3
    assert not (tmp_path / "elsewhere").exists()
    assert code(packages, "--override", "main.served_model_name=other") == 3
    copy = tmp_path / "demo" / demo_package.name
    subprocess.run(["cp", "-rL", str(demo_package), str(copy.parent.mkdir(parents=True) or copy)], check=True)
    assert code(tmp_path) == 0
    victim = next(copy.rglob("*.json"))
    victim.chmod(0o644)
    victim.write_text("{}")
    assert code(tmp_path) == 3


@pytest.mark.slow
def test_a_null_build_with_helpers_imports_nothing_of_theirs(demo_package: Path, shared_store: Path) -> None:
    """A remote cache and an executor cost nothing where nothing has to be done."""
    script = (
        "import sys; sys.stdout = sys.stderr; from maxbuild.cli import main; code = main(sys.argv[1:]); "
        "sys.__stdout__.write(' '.join([str(code), *sys.modules]))"
    )
    options = ["--remote", "file:///nowhere", "--remote-write", "--executor", "local"]
    options += ["--output", str(demo_package.parent.parent)]
    done = subprocess.run(
        [sys.executable, "-c", script, "warm", str(ROOT / "manifests/demo.yaml"), *options],
        env={**os.environ, "MAXBUILD_STORE": str(shared_store), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    code, *modules = done.stdout.split()
    assert code == "0", done.stderr
    assert not {"httpx2", "fsspec", "distributed", "dask", "torch", "networkx", "diskcache", "rich"} & set(modules)


def test_frozen_with_nothing_to_do_is_0(world: World, steady: Steady) -> None:
    """--frozen over a store that has all is a null build."""
    world.warm()
    code, said = world.warm(replace(WISHES, frozen=True))
    assert (code, steady(said)) == (0, "nothing to do: 5 tasks cached (#.## s)\n")


def test_frozen_names_key_and_reason_of_every_miss(world: World, steady: Steady, snapshot: SnapshotAssertion) -> None:
    """Nothing runs; each miss is an error with its key and why there is no result under it, and the code is 3."""
    world.warm()
    world.replan(length=1024)
    world.edit("weights", "7 8 9")
    before = world.store.statistics().results
    code, said = world.warm(replace(WISHES, frozen=True))
    assert code == 3
    assert steady(said) == snapshot
    assert world.store.statistics().results == before
    keys = {task.key for task in world.survey().in_state(State.WOULD_RUN)}
    assert all(str(key) in said for key in keys)
    assert len(keys) == 2


def test_frozen_tells_a_lost_result(world: World, steady: Steady, snapshot: SnapshotAssertion) -> None:
    """A result whose content is gone is a miss that says what is gone."""
    world.warm()
    report = world.survey()
    blob = world.store.blob_path(report.results["load main"].outputs["out"])
    assert blob is not None
    blob.unlink()
    code, said = world.warm(replace(WISHES, frozen=True))
    assert code == 3
    assert steady(said) == snapshot


def test_frozen_with_a_failure_of_another_kind_is_1(world: World) -> None:
    """Where an input cannot be read there is more wrong than work to do."""
    world.warm()
    world.replan(length=1024)
    (world.folder / "weights").unlink()
    assert world.warm(replace(WISHES, frozen=True))[0] == 1


def test_rerun_runs_a_task_that_is_done(world: World, steady: Steady, snapshot: SnapshotAssertion) -> None:
    """The task runs because it was asked for, and what consumes it does not, since it came out the same."""
    world.warm()
    assert steady(world.warm(replace(WISHES, rerun=("trace main",)))[1]) == snapshot


def test_rerun_of_what_turns_out_to_be_no_task_is_told(world: World) -> None:
    """On a cold store any name may become known; one that never does ends with 2, after the build is done."""
    with pytest.raises(UsageError) as raised:
        world.warm(replace(WISHES, rerun=("compile main/haed @ cpu:x86-64-v3",)))
    assert render(raised.value) == (
        "error: no task was called `compile main/haed @ cpu:x86-64-v3`, so `--rerun` ran nothing for it\n\n"
        "hint: did you mean `compile main/head @ cpu:x86-64-v3`?"
    )
    assert world.survey().complete


@pytest.mark.parametrize(
    "arguments",
    [
        "--check --frozen",
        "--check --dry-run",
        "--frozen --rerun trace",
        "--check --rerun trace",
        "--frozen --dry-run",
        "--dry-run --rerun trace",
        "--memory much",
        "--memory 0",
        "--memory -1GiB",
        "--memory 8",
        "--memory 8XB",
        "--rerun trase",
        "--remote-write",
        "--remote-weights",
        "--remote ftp://example.com/x",
        "--remote https://example.com/x --remote-instance ../up",
        "--executor nowhere",
        "--executor dask://host",
    ],
)
def test_wrong_options_are_told(
    arguments: str, maxbuild: Maxbuild, tmp_path: Path, snapshot: SnapshotAssertion
) -> None:
    """Options that make no sense, alone or together, end with 2 before anything is done."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text"}')
    for name in ("model.safetensors", "tokenizer.json"):
        (model / name).write_text("{}")
    (tmp_path / "small.yaml").write_text(
        "version: 1\nname: small\ntargets: ['cpu:x86-64-v3']\nmodels: {main: {model_path: ./model}}\n"
    )
    done = maxbuild("warm", "small.yaml", *arguments.split())
    assert (done.returncode, done.stdout, done.stderr) == (2, "", snapshot)
    assert not (tmp_path / "packages").exists()


@pytest.fixture
def place(tmp_path: Path) -> str:
    """Return the address of an empty remote cache."""
    (tmp_path / "remote").mkdir()
    return f"file://{tmp_path / 'remote'}"


@pytest.fixture
def elsewhere(world: World, tmp_path: Path) -> Iterator[World]:
    """Return another host's world: the same files, and a store of its own."""
    with Store(tmp_path / "other-store") as store:
        yield World(world.toy, store)


def test_what_was_built_elsewhere_is_fetched(
    world: World, elsewhere: World, place: str, steady: Steady, snapshot: SnapshotAssertion, capsys: Capture
) -> None:
    """With a remote cache that another host wrote, nothing runs here; each line and the end say `fetched`."""
    with open_sharing(place, "main", write=True, weights=False) as sharing:
        assert world.warm(replace(WISHES, sharing=sharing))[0] == 0
    capsys.readouterr()
    with open_sharing(place, "main", write=False, weights=False) as sharing:
        code, said = elsewhere.warm(replace(WISHES, sharing=sharing, frozen=True, json=True))
    assert code == 0
    assert steady(said) == snapshot
    document = json.loads(capsys.readouterr().out)
    assert document["counts"]["fetched"] == 5
    assert document["remote"]["hits"] == 5
    assert elsewhere.warm()[1].startswith("nothing to do")


def test_frozen_fetches_what_there_is_and_tells_the_rest(world: World, elsewhere: World, place: str) -> None:
    """A miss of both the store and the remote cache is an error."""
    with open_sharing(place, "main", write=True, weights=False) as sharing:
        world.warm(replace(WISHES, sharing=sharing))
    world.edit("weights", "7 8 9")
    with open_sharing(place, "main", write=False, weights=False) as sharing:
        code, said = elsewhere.warm(replace(WISHES, sharing=sharing, frozen=True))
    assert code == 3
    assert "3 fetched, 1 failed, 1 skipped" in said


def test_a_failed_build_names_its_run_and_how_to_see_the_log(world: World) -> None:
    """The last line says which command prints what the failed task printed."""
    world.edit("weights", "bad")
    said = world.warm()[1]
    run = newest_run(world.store)
    assert run is not None
    assert said.rstrip().endswith(f'hint: `maxbuild log "load main"` prints its log; this was run {run.id}')


def test_a_store_that_is_read_only_builds_without_a_journal(world: World) -> None:
    """A null build over such a store is one, and says nothing of runs."""
    world.warm()
    world.store.read_only = True
    before = len(list((world.store.root / "v1/runs").iterdir()))
    assert world.warm()[0] == 0
    assert len(list((world.store.root / "v1/runs").iterdir())) == before


def test_credentials_are_not_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal says what was asked for, and not with which password."""
    arguments = ["x", "warm", "a.yaml", "--remote=https://me:secret@example.com/cache", "--remote", "https://t@e.com/c"]
    monkeypatch.setattr(sys, "argv", arguments)
    assert spoken_command()[3:] == ["--remote=https://***@example.com/cache", "--remote", "https://***@e.com/c"]


def holder(state: HolderState) -> Holder:
    """Return a process on another host."""
    return Holder(1234, "builder-7", state)


def test_waiting_is_told_once_for_each_holder() -> None:
    """Where lines stay, a task that waits says for whom, and again only when that is somebody else."""
    out = io.StringIO()
    lines = PlainLines(Terminal(out))
    for state in (HolderState.BUSY, HolderState.BUSY, HolderState.STOPPED, HolderState.UNSEEN):
        lines(TaskWaits("compile main/decoder @ cpu", holder(state)))
    assert out.getvalue().splitlines() == [
        "compile main/decoder @ cpu waits for process 1234, which has the task",
        "compile main/decoder @ cpu waits for process 1234, which is stopped (`kill -CONT 1234` wakes it up)",
        "compile main/decoder @ cpu waits for process 1234 on `builder-7`, which cannot be seen from here",
    ]


def test_waiting_is_drawn_on_a_terminal() -> None:
    """A build that does nothing but wait draws for whom."""
    out = io.StringIO()
    with show_progress(Terminal(out, width=120, live=True)) as show:
        show(TaskWaits("load main", holder(HolderState.STOPPED)))
    assert "load main waits for process 1234, which is stopped" in out.getvalue()


def test_a_real_wait_for_a_stopped_process_is_told(world: World) -> None:
    """A build says that another process, which is stopped, has the task it wants, and goes on when that wakes up."""
    world.edit("weights", "hang")
    script = (
        "import sys, pathlib\n"
        f"sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests/cli')!r}]\n"
        "from maxbuild.engine import Store, execute\n"
        "from toyplans import KINDS, Toy\n"
        f"with Store(pathlib.Path({str(world.store.root)!r})) as store:\n"
        f"    execute(Toy(pathlib.Path({str(world.folder)!r})), store, KINDS, scope='toy', jobs=1)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    try:
        assert other.stdout.readline() == "running\n"
        other.send_signal(signal.SIGSTOP)
        said = io.StringIO()

        class Ended(Terminal):
            def write(self, text: str = "") -> None:
                super().write(text)
                if "is stopped" in text:
                    threading.Timer(0.1, other.kill).start()
                    world.edit("weights", "1 2 3")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("toyplans._hang", lambda _: None)
            built = build(world.toy, world.store, KINDS, WISHES, Ended(said))
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    assert f"load main waits for process {other.pid}, which is stopped" in said.getvalue()
    assert built.report.in_state(State.BUILT)


@pytest.mark.parametrize(("text", "count"), [("8GiB", 8 << 30), ("1.5gib", 3 << 29), ("500 MB", 500_000_000)])
def test_memory_is_read_as_people_write_it(text: str, count: int) -> None:
    """Units are binary or decimal as written, and capitals make no difference."""
    assert parse_memory(text) == count


def write_host(root: Path, total: int, groups: str = "", **limits: str) -> None:
    """Write the files in which a host tells what memory there is; `__` stands for a slash in the names of limits."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemFree: 1 kB\nMemTotal:       {total // 1024} kB\n")
    (root / "proc/self/cgroup").write_text(groups)
    for name, limit in limits.items():
        path = root / "sys/fs/cgroup" / name.replace("__", "/").replace("memory_", "memory.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{limit}\n")


GIB = 1 << 30


def test_memory_of_a_host_is_what_it_has_less_an_eighth(tmp_path: Path) -> None:
    """Without control groups it is the host's, and a small host keeps half a gibibyte back."""
    write_host(tmp_path / "large", 64 * GIB)
    assert memory_for_builds(tmp_path / "large") == 56 * GIB
    write_host(tmp_path / "small", 2 * GIB)
    assert memory_for_builds(tmp_path / "small") == 3 * GIB // 2
    write_host(tmp_path / "tiny", GIB // 4)
    assert memory_for_builds(tmp_path / "tiny") == 1
    assert memory_for_builds(tmp_path / "no-linux") is None


def test_memory_of_a_container_is_its_smallest_limit(tmp_path: Path) -> None:
    """A group and those above it count (version 2); `max` is no limit."""
    write_host(
        tmp_path,
        64 * GIB,
        "0::/jobs/one\n",
        memory_max="max",
        jobs__memory_max=str(8 * GIB),
        jobs__one__memory_max="max",
    )
    assert memory_for_builds(tmp_path) == 7 * GIB


def test_memory_of_a_container_of_version_1(tmp_path: Path) -> None:
    """Inside a container its own group is mounted as the top, and no limit is a number near the largest."""
    write_host(tmp_path, 64 * GIB, "4:memory:/docker/abc\n1:cpu:/x\n", memory__memory_limit_in_bytes=str(16 * GIB))
    assert memory_for_builds(tmp_path) == 14 * GIB
    (tmp_path / "sys/fs/cgroup/memory/memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert memory_for_builds(tmp_path) == 56 * GIB


@pytest.mark.parametrize("content", ["", "rubbish", "0:", "0::/../../..\n", "::::\n\n", "4:memory\n"])
def test_rubbish_about_control_groups_limits_nothing(content: str, tmp_path: Path) -> None:
    """What cannot be read is passed over."""
    write_host(tmp_path, 64 * GIB, content, memory_max="nonsense")
    assert memory_for_builds(tmp_path) == 56 * GIB


@dataclass(frozen=True)
class Heavy(Toy):
    """The toy plan, with compiles that each declare two gibibytes."""

    def grow(self, results: Mapping[str, Result]) -> Sequence[Task]:
        """Return what the toy plan does."""
        return [replace(task, memory=2 * GIB) if task.kind == "compile" else task for task in super().grow(results)]


@pytest.mark.parametrize(("memory", "at_once"), [(3 * GIB, 1), (4 * GIB, 2), (None, 2)])
def test_memory_bounds_what_runs_at_once(
    memory: int | None, at_once: int, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiles that declare more together than `--memory` run one after the other, however many jobs there are."""
    running: list[str] = []
    most: list[int] = []
    compile_toy = toyplans.compile

    def slow(job: Job) -> Mapping[str, Path]:
        running.append("one")
        time.sleep(0.2)
        most.append(len(running))
        running.pop()
        return compile_toy(job)

    monkeypatch.setattr(toyplans, "compile", slow)
    wishes = Wishes("toy", 8, memory=memory)
    assert build(Heavy(world.folder), world.store, KINDS, wishes, Terminal(io.StringIO())).report.complete
    assert max(most) == at_once


def test_a_load_declares_the_weights_it_may_have_to_cast(tmp_path: Path) -> None:
    """What a task declares follows the size of the weights, up to what is in memory at once, and enters no key."""
    manifest = tmp_path / "m.yaml"
    manifest.write_text(
        "version: 1\nname: m\ntargets: ['cpu:x86-64-v3']\nmodels: {main: {model_path: ./model, use_subgraphs: false}}\n"
    )
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    declared = []
    for size in (1 << 20, 64 << 30):
        with (model / "model.safetensors").open("wb") as file:
            file.truncate(size)  # a hole: it takes no room
        plan = make_plan(load_manifest(manifest))
        declared.append({task.name: task.memory for task in plan.tasks})
        traced = {"trace main": Result({"program": Digest("0" * 64), "regions/model": Digest("1" * 64)})}
        compile_task, build_task = plan.grow(traced)
    assert declared[0]["load main"] == (512 << 20) + (1 << 20)
    assert declared[1]["load main"] == (512 << 20) + (2 << 30)
    assert declared[0]["trace main"] == declared[1]["trace main"] == 768 << 20
    assert (compile_task.memory, build_task.memory) == (2 << 30, 2 << 30)
