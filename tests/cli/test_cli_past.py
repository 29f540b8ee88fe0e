"""The past: `why --last`, `runs`, `diff` and `log`, from journals, stored documents and logs alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cli_world import WISHES, Maxbuild, World
from syrupy.assertion import SnapshotAssertion

from maxbuild.cli.diff import tell_difference
from maxbuild.cli.log import print_log, split_words
from maxbuild.cli.past import answer_past
from maxbuild.cli.runnames import find_named_run
from maxbuild.engine import Store
from maxbuild.engine.journal import Journal, Run, newest_run, pin, runs
from maxbuild.errors import StoreError, UsageError, render
from maxbuild.report.runs import runs_table
from maxbuild.report.terminal import Terminal
from maxbuild.report.units import ago

Steady = Callable[[str], str]
Capture = pytest.CaptureFixture[str]


def newest(world: World) -> Run:
    """Return the newest run."""
    run = newest_run(world.store)
    assert run is not None
    return run


def journal_path(world: World, run: Run) -> Path:
    """Return the file of a run's journal."""
    return world.store.root / "v1" / "runs" / f"{run.id}.jsonl"


def history(world: World) -> None:
    """Build three times: from nothing, with one change, and with a failure."""
    world.warm()
    world.replan(length=1024)
    world.warm()
    world.edit("weights", "bad")
    world.warm(replace(WISHES, keep_going=True))


def last(world: World, query: str = "", run: str = "last", *, json: bool = False) -> None:
    """Say what `why --last` says."""
    answer_past(run, query, world.store, "toy", json=json)


@pytest.mark.parametrize(
    ("query", "run"),
    [("", "last"), ("", "last~1"), ("", "last~2"), ("load", "last"), ("load", "last~1"), ("package", "last")],
)
def test_why_of_a_run(
    query: str, run: str, world: World, steady: Steady, snapshot: SnapshotAssertion, capsys: Capture
) -> None:
    """What ran is told with its reasons and its error; of a task that was found done, why its result was made."""
    history(world)
    capsys.readouterr()
    last(world, query, run)
    assert steady(capsys.readouterr().out) == snapshot


def test_why_of_a_run_looks_nothing_up(world: World, capsys: Capture) -> None:
    """The answer is that of yesterday, whatever became of sources and results since."""
    history(world)
    capsys.readouterr()
    last(world)
    before = capsys.readouterr().out
    for path in world.folder.iterdir():
        path.unlink()
    for path in (world.store.root / "v1" / "cas").rglob("*"):
        if path.is_file():
            path.unlink()
    last(world)
    assert capsys.readouterr().out == before


def test_why_of_a_run_tells_lost_and_forced_tasks(
    world: World, steady: Steady, snapshot: SnapshotAssertion, capsys: Capture
) -> None:
    """That a result was gone, or that a run was asked for, is told like every other reason."""
    world.warm()
    blob = world.store.blob_path(world.survey().results["load main"].outputs["out"])
    assert blob is not None
    blob.unlink()
    world.warm(replace(WISHES, rerun=("trace main",)))
    capsys.readouterr()
    last(world)
    assert steady(capsys.readouterr().out) == snapshot


def test_why_of_a_run_in_which_nothing_ran(
    world: World, steady: Steady, snapshot: SnapshotAssertion, capsys: Capture
) -> None:
    """After a null build the way to the run before it is told."""
    world.warm()
    world.warm()
    capsys.readouterr()
    last(world)
    out, err = capsys.readouterr()
    assert steady(f"{out}---\n{err}") == snapshot


def test_why_of_a_run_as_a_document(world: World, capsys: Capture) -> None:
    """The document names the run and has the tasks that ran, with reasons and errors."""
    history(world)
    capsys.readouterr()
    last(world, json=True)
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["manifest"]) == ("maxbuild.why.v1", "toy")
    assert document["run"]["id"] == newest(world).id
    (task,) = document["tasks"]
    assert (task["name"], task["state"]) == ("load main", "failed")
    assert (task["reasons"][0]["reason"], task["error"]["message"]) == ("input", "the file is cut short")


@pytest.mark.parametrize(
    ("query", "run"), [("laod main", "last"), ("compile", "last"), ("zzz", "last"), ("", "last~7")]
)
def test_why_of_a_run_never_guesses(
    query: str, run: str, world: World, steady: Steady, snapshot: SnapshotAssertion
) -> None:
    """A task or a run that is not there is told, with the way on."""
    history(world)
    with pytest.raises(UsageError) as raised:
        last(world, query, run)
    assert steady(render(raised.value)) == snapshot


def test_without_runs_there_is_nothing_to_tell(world: World, steady: Steady, snapshot: SnapshotAssertion) -> None:
    """A manifest that was never built here has no last run."""
    with pytest.raises(UsageError) as raised:
        last(world)
    assert steady(render(raised.value)) == snapshot


def test_runs_whose_listing_is_gone_say_so(world: World, steady: Steady, snapshot: SnapshotAssertion) -> None:
    """A null build whose tasks another journal listed is not made up when that is gone."""
    world.warm()
    journal_path_of_first = journal_path(world, newest(world))
    world.warm()
    journal_path_of_first.unlink()
    with pytest.raises(UsageError) as raised:
        last(world)
    assert steady(render(raised.value)) == snapshot


def test_runs_by_name(world: World) -> None:
    """A run is meant by its id, by enough of its beginning, or by how long ago it was in its manifest."""
    history(world)
    found = runs(world.store)
    with Journal.begin(world.store, "other", []):
        pass
    assert find_named_run("last", world.store).scope == "other"
    assert find_named_run("last", world.store, "toy").id == found[0].id
    assert find_named_run("last~2", world.store, "toy").id == found[2].id
    assert find_named_run(found[1].id, world.store).id == found[1].id
    assert find_named_run(found[1].id[:-3], world.store).id == found[1].id


@pytest.mark.parametrize("query", ["2", "", "zzz", "last~x", "last~9", "last~", "../../x", "lsat"])
def test_names_of_runs_are_never_guessed(query: str, world: World, steady: Steady, snapshot: SnapshotAssertion) -> None:
    """What means several runs lists them, what means none says how runs are named."""
    history(world)
    with pytest.raises(UsageError) as raised:
        find_named_run(query, world.store)
    assert steady(render(raised.value)) == snapshot


def test_table_of_runs(world: World, steady: Steady, snapshot: SnapshotAssertion) -> None:
    """Every run has a line: whose, when, how long, what it came to, and whether it is kept."""
    history(world)
    pin(world.store, newest(world).id)
    with Journal.begin(world.store, "other", []):
        found = runs(world.store)
    ended = [replace(run, begun=1000.0, ended=1002.5) if run.ended else replace(run, begun=940.0) for run in found]
    died = replace(ended[0], state=runs(world.store)[0].state)
    assert steady(runs_table([*ended, died], 1000.0 + 7200, Terminal(sys.stdout))) == snapshot


def test_ages_of_runs() -> None:
    """Ages are told in the largest unit that is full; what lies in the future, by another clock, is now."""
    told = [ago(seconds) for seconds in (-5, 59, 60, 3599, 3600, 86_399, 86_400, 12 * 86_400)]
    assert told == [
        "just now",
        "just now",
        "1 min ago",
        "59 min ago",
        "1 h ago",
        "23 h ago",
        "1 day ago",
        "12 days ago",
    ]


def test_difference_of_two_runs(world: World, steady: Steady, snapshot: SnapshotAssertion, capsys: Capture) -> None:
    """Every value that differs is told from old to new, from the documents of both runs, failed tasks included."""
    history(world)
    world.edit("weights", "1 2 3")
    world.replan(targets=("cpu:x86-64-v4",))
    world.warm()
    capsys.readouterr()
    for old, new in (("last~3", "last~2"), ("last~2", "last~1"), ("last~3", "last"), ("last", "last")):
        tell_difference(old, new, world.store)
    assert steady(capsys.readouterr().out) == snapshot


def test_difference_is_told_from_journals_where_the_store_forgot(world: World, capsys: Capture) -> None:
    """Without the index, what ran is still compared by the documents in the journals."""
    world.warm()
    world.replan(length=1024)
    world.edit("weights", "4 5")
    world.warm()
    capsys.readouterr()
    tell_difference("last~1", "last", world.store)
    before = capsys.readouterr().out
    world.store.close()
    for path in (world.store.root / "v1" / "index").iterdir():
        path.unlink()
    with Store(world.store.root) as store:
        tell_difference("last~1", "last", store)
    assert capsys.readouterr().out == before
    assert "param  max_length  512 → 1024" in before


def test_a_document_that_is_gone_is_said_to_be_gone(
    world: World, steady: Steady, snapshot: SnapshotAssertion, capsys: Capture
) -> None:
    """Where neither the store nor the journal has a document any more, that is told, and the keys."""
    world.warm()
    first = newest(world)
    world.replan(length=1024)
    world.warm()
    path = journal_path(world, first)
    path.write_text("".join(f"{line}\n" for line in path.read_text().splitlines() if '"trace main"' not in line))
    line = {"task": "trace main", "kind": "trace", "state": "cached", "key": "0" * 63 + "a"}
    path.write_text(path.read_text() + json.dumps(line) + "\n")
    capsys.readouterr()
    tell_difference("last~1", "last", world.store)
    assert steady(capsys.readouterr().out) == snapshot


def test_difference_as_a_document(world: World, capsys: Capture) -> None:
    """The document has what came, what went, and every difference."""
    world.warm()
    world.replan(length=1024, targets=("cpu:x86-64-v4",))
    world.warm()
    capsys.readouterr()
    tell_difference("last~1", "last", world.store, json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "maxbuild.diff.v1"
    assert {name.rpartition("-")[2] for name in document["added"]} == {"v4"}
    assert {name.rpartition("-")[2] for name in document["removed"]} == {"v3"}
    (change,) = document["changed"]
    assert change["differences"] == [{"reason": "param", "what": "max_length", "old": "512", "new": "1024"}]
    assert (change["document_gone_from"], document["equal"]) == ([], 1)


def test_log_of_a_failed_task(world: World, capsys: Capture) -> None:
    """The traceback of a task that failed within maxbuild is on stdout; whose it is, on stderr."""
    history(world)
    capsys.readouterr()
    print_log("last", "load", world.store)
    out, err = capsys.readouterr()
    assert out.startswith("Traceback")
    assert "the file is cut short" in out
    assert err == f"load main, failed in run {newest(world).id} of toy:\n"


def test_log_is_printed_byte_for_byte(world: World, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """What a compiler printed goes into a pipe as it is, whatever its encoding."""
    history(world)
    key = newest(world).tasks["load main"].key
    assert key is not None
    content = b"\xff\xfe caf\xe9 \x1b[2J\n no newline at the end"
    world.store.log_path(key).write_bytes(content)
    capfdbinary.readouterr()
    print_log("last", "load", world.store, "toy")
    assert capfdbinary.readouterr().out == content


def test_log_cannot_steer_a_terminal(world: World, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal control characters are escaped."""
    history(world)
    key = newest(world).tasks["load main"].key
    assert key is not None
    world.store.log_path(key).write_bytes(b"red \x1b[31m\xff")
    capsys.readouterr()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_log("last", "load", world.store)
    assert capsys.readouterr().out == "red \\x1b[31m\\xff\n"


def test_a_log_without_a_word_is_told(world: World, capsys: Capture) -> None:
    """A task that printed nothing has an empty log, which is something else than none."""
    history(world)
    key = newest(world).tasks["trace main"].key
    assert key is not None
    world.store.log_path(key).write_bytes(b"")
    capsys.readouterr()
    print_log("last", "trace", world.store)
    told = f"trace main, cached in run {newest(world).id} of toy: it printed nothing\n"
    assert capsys.readouterr() == ("", told)


@pytest.mark.parametrize("task", ["trace main", "package", "compile main/decoder", "lod main"])
def test_why_there_is_no_log(task: str, world: World, steady: Steady, snapshot: SnapshotAssertion) -> None:
    """A task without a log says what became of it instead."""
    world.warm()
    world.edit("weights", "bad")
    world.replan(length=9)
    world.warm(replace(WISHES, keep_going=True))
    with pytest.raises(UsageError) as raised:
        print_log("last", task, world.store)
    assert steady(render(raised.value)) == snapshot


def test_a_log_that_cannot_be_read_is_the_disks_error(world: World) -> None:
    """A folder in the place of a log is told as such (4)."""
    history(world)
    key = newest(world).tasks["load main"].key
    assert key is not None
    path = world.store.log_path(key)
    path.unlink()
    path.mkdir()
    with pytest.raises(StoreError, match="could not read"):
        print_log("last", "load", world.store)


def test_words_of_log_begin_with_a_manifest_or_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ends as a manifest does, or is a file and not alone, is one; all else is a task."""
    monkeypatch.chdir(tmp_path)
    Path("demo").touch()
    assert split_words(["demo.yaml", "load", "main"]) == (Path("demo.yaml"), "load main")
    assert split_words(["demo", "load main"]) == (Path("demo"), "load main")
    assert split_words(["demo"]) == (None, "demo")
    assert split_words(["load", "main"]) == (None, "load main")
    for words in (["demo.yaml"], ["demo.yml", " "], [""]):
        with pytest.raises(UsageError, match="`TASK` is missing"):
            split_words(words)


@pytest.fixture
def built(maxbuild: Maxbuild, tmp_path: Path) -> Maxbuild:
    """Return the real command in a folder where `small.yaml` was built once, and failed: its weights are no weights."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text"}')
    for name in ("model.safetensors", "tokenizer.json"):
        (model / name).write_text("{}")
    manifest = "version: 1\nname: small\ntargets: ['cpu:x86-64-v3']\nmodels: {main: {model_path: ./model}}\n"
    (tmp_path / "small.yaml").write_text(manifest)
    with Store(tmp_path / "store") as store:
        for _ in range(2):
            with Journal.begin(store, "small", ["maxbuild", "warm", "small.yaml"]):
                pass
    return maxbuild


def test_the_commands_work_from_end_to_end(built: Maxbuild, steady: Steady, snapshot: SnapshotAssertion) -> None:
    """`runs`, `why --last`, `diff` and `log` find the store, the manifest and the runs by themselves."""
    commands = (
        "runs",
        "runs small.yaml --limit 1",
        "why small.yaml --last",
        "why small.yaml --run last~1 load",
        "diff last~1 last",
        "log small.yaml load main",
        "log load",
        "why small.yaml --last --run last",
        "runs missing.yaml",
    )
    told = []
    for command in commands:
        done = built(*command.split())
        told.append(f"$ {command}: {done.returncode}\n{done.stdout}{done.stderr}")
    assert steady("\n".join(told)) == snapshot


def test_runs_as_a_document(built: Maxbuild) -> None:
    """The document has every run with its state, newest first, and how many are not shown."""
    document = json.loads(built("runs", "--json", "--limit", "1").stdout)
    (run,) = document["runs"]
    assert (document["schema"], document["more"]) == ("maxbuild.runs.v1", 1)
    assert (run["manifest"], run["state"], run["command"]) == ("small", "died", ["maxbuild", "warm", "small.yaml"])


def test_no_runs_are_told(maxbuild: Maxbuild) -> None:
    """An empty store has none, which is no error."""
    done = maxbuild("runs")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "no run is known\n")
