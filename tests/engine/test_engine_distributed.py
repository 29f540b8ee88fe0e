"""What is true of the distributed executor alone: what travels, who is trusted, and how a cluster may fail."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from clusters import TOKEN, Cluster, cluster, is_alive, order, wait_until
from remote.servers import Server, free_port, serving
from toys import LEDGER

from maxbuild.engine import hash_bytes
from maxbuild.engine.children import Children
from maxbuild.engine.distributed import carry_out_order, open_executor, worker
from maxbuild.engine.distributed.address import PATIENCE
from maxbuild.engine.distributed.wire import Answer, Errand
from maxbuild.engine.executor import Executor
from maxbuild.engine.remote import RemoteCacheWarning, open_remote
from maxbuild.engine.sharing import Sharing
from maxbuild.errors import MaxbuildError, StoreError, TaskFailed, UsageError


@pytest.fixture(autouse=True)
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give steps of this host a ledger; workers have one of their own."""
    monkeypatch.setenv(LEDGER, str(tmp_path / "ledger"))


@pytest.fixture
def executor(workers: Cluster, sharing: Sharing) -> Iterator[Executor]:
    """Return the executor of a cluster of two workers."""
    opened = open_executor(workers.spec, sharing, {})
    yield opened
    opened.close()


def failing(executor: Executor, *args: Any, **params: Any) -> MaxbuildError:
    """Return the error that carrying out an order ends with."""
    with pytest.raises(MaxbuildError) as caught:
        executor.run(order(*args, **params), Children())
    return caught.value


# What travels


def test_an_errand_is_one_function_and_one_text(
    executor: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that is submitted is `carry_out_order` and JSON with the members that are documented: no closure, no path."""
    from distributed import Client

    submitted: list[tuple[Any, ...]] = []
    plain = Client.submit

    def submit(client: Client, *args: Any, **options: Any) -> Any:
        submitted.append((args, options))
        return plain(client, *args, **options)

    monkeypatch.setattr(Client, "submit", submit)
    executor.run(order(tmp_path / "secret-place", "far_concat", {"a": "one"}, text="x"), Children())

    (((function, *arguments), options),) = submitted
    assert function is carry_out_order
    (text,) = arguments
    assert type(text) is str
    assert options.keys() == {"key", "pure"}
    errand = json.loads(text)
    assert errand.keys() == {"schema", "name", "key", "document", "sizes", "run", "toolchain", "remote"}
    assert errand["remote"] == {"url": f"file://{tmp_path}/remote", "instance": "main"}
    assert json.loads(errand["document"])["inputs"] == {"a": hash_bytes(b"one")}
    assert str(tmp_path / "secret-place") not in text.replace(errand["name"], "")
    assert os.environ["HOME"] not in text


def test_credentials_stay_where_they_are(workers: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Build and workers each show the remote cache what their own environment holds; neither goes to the other."""
    from distributed import Client

    texts: list[str] = []
    plain = Client.submit
    monkeypatch.setattr(
        Client, "submit", lambda client, *args, **options: texts.append(args[1]) or plain(client, *args, **options)
    )
    with serving(Server()) as server:
        environ = {"MAXBUILD_REMOTE_TOKEN": "token-of-the-build"}
        cache = open_remote(server.url, instance="main", write=True, environ=environ)
        opened = open_executor(workers.spec, Sharing(cache), {})
        outputs = opened.run(order(tmp_path, "far_concat", {"a": "one"}, text="x"), Children())
        opened.close()
        cache.close()

    assert outputs["out"].read_text() == "x(one)"
    (text,) = texts
    assert "token-of-the-build" not in text
    who = {(asked.method, asked.headers["authorization"]) for asked in server.asked if asked.method != "HEAD"}
    build, other = "Bearer token-of-the-build", f"Bearer {TOKEN}"
    assert who == {("PUT", build), ("GET", other), ("PUT", other), ("GET", build)}


@pytest.mark.parametrize("kind", ["concat", "far_concat"])
def test_what_must_not_travel_stays(kind: str, sharing: Sharing, tmp_path: Path) -> None:
    """A kind without a toolchain, and a task with something local, are carried out here: no cluster is asked."""
    opened = open_executor(f"dask://127.0.0.1:{free_port()}", sharing, {})
    job = order(tmp_path, "far_concat", text="x")
    object.__setattr__(job.job, "local", {"mirror": "https://token@example.com"} if kind == "far_concat" else {})
    if kind == "concat":
        job = job._replace(kind=job.kind._replace(toolchain=None))
    assert opened.run(job, Children())["out"].read_text() == "x()"
    opened.close()


def test_nothing_to_do_imports_no_dask(tmp_path: Path) -> None:
    """An executor that is opened and never used imports no library of a cluster and connects to nobody."""
    code = """if True:
        import sys
        from maxbuild.engine.distributed import open_executor
        from maxbuild.engine.remote import open_remote
        from maxbuild.engine.sharing import Sharing
        cache = open_remote("file:///nowhere", instance="main", write=True, environ={})
        open_executor("dask://127.0.0.1:9", Sharing(cache), {}).close()
        print(sorted({"dask", "distributed", "tornado"} & sys.modules.keys()))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# Whom is what believed


def test_a_worker_with_another_toolchain_refuses(
    executor: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker whose toolchain is not the task's runs nothing, and names every entry that differs."""
    monkeypatch.setattr("clusters.toolchain_of", lambda kind, params=None: {"toys": "2", "torch": "2.13.0"})

    error = failing(executor, tmp_path, "far_crash")

    assert isinstance(error, TaskFailed)
    assert error.message.endswith("has another toolchain than task `toy " + tmp_path.name + "`")
    assert error.causes == (
        "`torch` is missing there, and the task says 2.13.0",
        "`toys` is 1 there, and the task says 2",
    )


def test_damaged_inputs_are_not_used(executor: Executor, tmp_path: Path) -> None:
    """A remote cache that gives a worker other bytes than the document names fails the task; the step does not run."""
    place = tmp_path / "remote" / "main" / "cas" / hash_bytes(b"right")
    place.parent.mkdir(parents=True)
    place.write_bytes(b"wrong")

    error = failing(executor, tmp_path / "job", "far_pass_through", {"from": "right"})

    assert "could not fetch input `from` of task `toy job`" in error.message
    assert "bytes that are not those of the digest" in error.causes[0]


def test_damaged_outputs_are_not_taken(executor: Executor, tmp_path: Path) -> None:
    """What a worker left is taken only in the bytes it names; the remote cache is out of use then."""
    place = tmp_path / "remote" / "main" / "cas" / hash_bytes(b"x()")
    place.parent.mkdir(parents=True)
    place.write_bytes(b"y()")

    with pytest.warns(RemoteCacheWarning, match="not those of the digest"):
        error = failing(executor, tmp_path / "job", "far_concat", text="x")

    assert error.message == "could not fetch output `out` of task `toy job`"


def test_inputs_that_do_not_reach_the_cache_are_told(workers: Cluster, tmp_path: Path) -> None:
    """Where the remote cache takes nothing, the task fails here and says why; no worker is asked."""
    with serving(Server()) as server:
        server.refuse_writing = 403
        cache = open_remote(server.url, instance="main", write=True, environ={"MAXBUILD_REMOTE_TOKEN": "x"})
        opened = open_executor(workers.spec, Sharing(cache), {})
        with pytest.warns(RemoteCacheWarning, match="answered 403"):
            error = failing(opened, tmp_path, "far_concat", {"a": "one"})
        opened.close()
        cache.close()

    assert error.message == f"could not hand over input `a` of task `toy {tmp_path.name}`"
    assert "answered 403" in error.causes[0]


def test_a_worker_without_a_credential_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that may not write the remote cache of the build names the variables its environment lacks."""
    monkeypatch.delenv("MAXBUILD_REMOTE_TOKEN", raising=False)
    errand = an_errand(tmp_path, url="https://cache.example.com")

    with pytest.raises(TaskFailed, match="cannot use the remote cache") as caught:
        worker._open_remote(errand)

    assert caught.value.causes == ("writing to a remote cache needs a credential",)
    assert "in the environment of the workers: set MAXBUILD_REMOTE_TOKEN" in str(caught.value.hint)


def an_errand(folder: Path, url: str = "file:///srv/cache") -> Errand:
    """Return an errand."""
    document = order(folder, "far_concat", {"a": "one"}).document
    return Errand("toy", document.key(), document, {"a": 3}, "toys:concat", "toys:toolchain_of", url, "main")


def test_errands_and_answers_come_over_as_they_are(tmp_path: Path) -> None:
    """The two documents of the wire mean the same when they are read as when they were written."""
    errand = an_errand(tmp_path)
    assert Errand.from_text(errand.to_text()) == errand
    for answer in (Answer("w", "log", outputs={}), Answer("w", "log \udcff", outputs=None, error=TaskFailed("no"))):
        again = Answer.from_text(answer.to_text())
        assert (again.worker, again.log, again.outputs, str(again.error)) == (
            answer.worker,
            answer.log,
            answer.outputs,
            str(answer.error),
        )


def _other_schema(errand: dict[str, Any]) -> None:
    errand["schema"] = 2


def _further_member(errand: dict[str, Any]) -> None:
    errand["local"] = {}


def _other_key(errand: dict[str, Any]) -> None:
    errand["key"] = "0" * 64


def _other_form(errand: dict[str, Any]) -> None:
    errand["document"] += " "


@pytest.mark.parametrize("change", [_other_schema, _further_member, _other_key, _other_form])
def test_errands_of_another_version_are_refused(change: Callable[[dict[str, Any]], None], tmp_path: Path) -> None:
    """An errand that a worker does not understand to the last member is refused as another version's."""
    errand = json.loads(an_errand(tmp_path).to_text())
    change(errand)

    with pytest.raises(TaskFailed, match="another version of maxbuild") as caught:
        Errand.from_text(json.dumps(errand))

    assert caught.value.hint == "install the same maxbuild on all workers and where the build runs"


# How a cluster may fail


def test_a_worker_that_dies_is_replaced(executor: Executor, workers: Cluster, tmp_path: Path) -> None:
    """A task whose worker is killed in the midst of it is carried out once more, and nobody notices."""
    deaths = tmp_path / "deaths"

    outputs = executor.run(order(tmp_path / "job", "far_end_host", deaths=str(deaths), times=1), Children())

    assert outputs["out"].read_text() == "survived"
    assert deaths.read_bytes() == b"x"


def test_a_task_that_kills_its_workers_is_named(executor: Executor, tmp_path: Path) -> None:
    """A task that takes down every worker it gets fails by its name; it does not take down the cluster for ever."""
    error = failing(executor, tmp_path / "job", "far_end_host", deaths=str(tmp_path / "deaths"), times=100)

    assert isinstance(error, TaskFailed)
    assert error.message == "task `toy job` failed"
    assert error.causes == ("2 workers died while they carried it out, most likely for want of memory",)
    assert executor.run(order(tmp_path / "next", "far_concat"), Children())["out"].read_text() == "()"


def test_a_full_disk_of_a_worker_is_not_ours(executor: Executor, tmp_path: Path) -> None:
    """A worker without room fails its task; the build's own store has nothing to do with it."""
    error = failing(executor, tmp_path, "far_disk_full")

    assert not isinstance(error, StoreError)
    assert error.message == f"task `toy {tmp_path.name}` failed on its worker"
    assert any("No space left on device" in cause for cause in error.causes)


def test_long_logs_are_cut_at_the_front(executor: Executor, tmp_path: Path) -> None:
    """Of what a step prints the last MiB comes back, and says how much is missing."""
    job = order(tmp_path, "far_chatter", lines=100_000)

    executor.run(job, Children())

    log = job.log.read_text()
    assert worker.LONGEST_LOG < len(log) < worker.LONGEST_LOG + 1000
    assert log.endswith("line 99999\n")
    assert " bytes cut here]" in log[:200]


def test_an_errand_of_a_build_that_died_is_ended(workers: Cluster, sharing: Sharing, tmp_path: Path) -> None:
    """When the process of a build is killed, what it had running on the cluster ends by itself, and leaves nothing."""
    note = tmp_path / "pid"
    code = f"""if True:
        from pathlib import Path
        from clusters import order
        from maxbuild.engine.distributed import open_executor
        from maxbuild.engine.children import Children
        from maxbuild.engine.remote import open_remote
        from maxbuild.engine.sharing import Sharing
        cache = open_remote("file://{tmp_path}/remote", instance="main", write=True, environ={{}})
        executor = open_executor("{workers.spec}", Sharing(cache), {{}})
        executor.run(order(Path("{tmp_path}/job"), "far_hold", pid="{note}"), Children())
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    build = subprocess.Popen([sys.executable, "-c", code], env=environment)
    wait_until(note.exists, "the step")
    pid = int(note.read_text())
    assert is_alive(pid)

    build.send_signal(signal.SIGKILL)
    build.wait()

    wait_until(lambda: not is_alive(pid), "the end of the step's process")
    wait_until(lambda: workers.left_behind() == [], "the end of what it left")


def test_errands_leave_nothing_with_workers(executor: Executor, workers: Cluster, tmp_path: Path) -> None:
    """What a worker needed for a task is gone when it is done, whether it went well or not."""
    executor.run(order(tmp_path / "good", "far_concat", {"a": "one"}), Children())
    failing(executor, tmp_path / "bad", "far_crash", {"a": "one"})

    wait_until(lambda: workers.left_behind() == [], "the end of what it left")


def test_an_unreachable_scheduler_is_told_once(
    sharing: Sharing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scheduler that is not there is an error in our words; the next task does not wait for it again."""
    monkeypatch.setattr("maxbuild.engine.distributed.cluster._REACH", 1.0)
    port = free_port()
    opened = open_executor(f"dask://127.0.0.1:{port}", sharing, {})

    first, second = (failing(opened, tmp_path / name, "far_concat") for name in "ab")

    assert first is second
    assert first.message == f"could not reach a dask scheduler at tcp://127.0.0.1:{port}"
    opened.close()


def test_a_cluster_without_workers_is_not_waited_for(sharing: Sharing, tmp_path: Path) -> None:
    """Where no worker comes within the time that the environment gives, the task fails and says what to start."""
    with cluster(tmp_path, workers=0) as empty:
        opened = open_executor(empty.spec, sharing, {PATIENCE: "1"})
        error = failing(opened, tmp_path / "job", "far_concat")
        opened.close()

    assert error.message == "no worker took task `toy job` within 1 s"
    assert error.hint == f"start some with `dask worker tcp://127.0.0.1:{empty.port}`"


def test_a_scheduler_that_goes_away_is_told(sharing: Sharing, tmp_path: Path) -> None:
    """A build whose scheduler dies in the midst of a task is told so, and does not hang."""
    with cluster(tmp_path, workers=0) as running:
        opened = open_executor(running.spec, sharing, {})
        errors: list[MaxbuildError] = []
        thread = threading.Thread(target=lambda: errors.append(failing(opened, tmp_path / "job", "far_concat")))
        thread.start()
        wait_until(lambda: opened._cluster is not None, "the connection")  # type: ignore[attr-defined]
        running.processes[0].kill()
        thread.join(60)
        opened.close()

    assert [error.message for error in errors] == [
        f"lost the dask scheduler at tcp://127.0.0.1:{running.port} while task `toy job` ran there"
    ]


# What may be asked for


@pytest.mark.parametrize(
    "spec",
    ["dask", "dask://", "dask://host", "dask://host:port", "dask://host:1/path", "dask://me@host:1", "tcp://h:1", ""],
)
def test_other_executors_are_refused(spec: str, sharing: Sharing) -> None:
    """What is no executor is a mistake of usage, and the hint shows both that there are."""
    with pytest.raises(UsageError, match="not an executor") as caught:
        open_executor(spec, sharing, {})

    assert caught.value.hint == (
        "write `local`, or the address of a dask scheduler such as `dask://scheduler.example.com:8786`"
    )


def test_a_cluster_needs_a_cache_that_takes(tmp_path: Path) -> None:
    """Without a remote cache, or with one that is only read, there is no way for content to travel."""
    cache = open_remote(f"file://{tmp_path}", instance="main", write=False, environ={})
    for sharing in (None, Sharing(cache)):
        with pytest.raises(UsageError, match="needs a remote cache that may be written") as caught:
            open_executor("dask://host:8786", sharing, {})
        assert caught.value.hint == "add `--remote URL --remote-write`"


def test_dask_is_an_extra(sharing: Sharing, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without dask the hint is the command that installs it."""
    monkeypatch.setattr("maxbuild.engine.distributed.address.find_spec", lambda name: None)
    with pytest.raises(UsageError) as caught:
        open_executor("dask://host:8786", sharing, {})
    assert caught.value.hint == "pip install 'maxbuild[dask]'"


def test_patience_is_a_number(sharing: Sharing) -> None:
    """What the environment says of patience is checked like everything else."""
    with pytest.raises(UsageError, match=f"{PATIENCE} is `soon`"):
        open_executor("dask://host:8786", sharing, {PATIENCE: "soon"})
