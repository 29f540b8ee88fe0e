"""The hermeticity lint: what steps touch without declaring it is told, in process, isolated, and through others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from clusters import is_alive, wait_until
from conftest import World, toy
from remote.servers import required

from maxbuild.engine import State, Store, Task
from maxbuild.engine.lint import Allowance, Finding, LintingExecutor, LintReport
from maxbuild.engine.lint.access import Access, How
from maxbuild.engine.lint.allowances import SYSTEM, Allowances
from maxbuild.engine.lint.strace import find_strace, parse

KIND_PLACES = ["here", "isolated"]


class Lint:
    """A world whose builds are watched, and what was reported of each task."""

    def __init__(self, world: World, *allowances: Allowance) -> None:
        self.world = world
        self.reports: dict[str, LintReport] = {}
        self.allowances = {"probe": allowances}

    def build(self, *tasks: Task) -> None:
        """Build `tasks`, watched."""
        executor = LintingExecutor(self._take, self.allowances)
        report = self.world.build(*tasks, executor=executor, rerun=[task.name for task in tasks])
        assert all(task.state is State.BUILT for task in report.tasks), [str(task.error) for task in report.tasks]

    def _take(self, report: LintReport) -> None:
        self.reports[report.task] = report

    def found(self, name: str) -> set[tuple[str, str]]:
        """Return what was found of a task, but for the ledger that all toys write."""
        findings = self.reports[name].findings
        return {(str(finding.how), finding.path) for finding in findings if finding.path != str(self.world.ledger)}


@pytest.fixture
def lint(world: World) -> Lint:
    """Return a world that is watched."""
    return Lint(world)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """Return a file that no task declares."""
    path = tmp_path / "secret.txt"
    path.write_text("secret")
    return path


def probe(name: str, place: str, action: str, path: Path, **inputs: object) -> Task:
    """Return a task that does something to `path`, of which the engine is told nothing."""
    kind = {"here": "probe", "isolated": "isolated_probe"}[place]
    return toy(name, kind, inputs, local={"action": action, "path": str(path)})  # type: ignore[arg-type]


@pytest.mark.parametrize("place", KIND_PLACES)
@pytest.mark.parametrize("action", ["read", "read_in_thread"])
def test_undeclared_reads_are_found(lint: Lint, secret: Path, place: str, action: str) -> None:
    """A file that a step reads and does not declare is told, also when a thread that it started reads it."""
    lint.build(probe("p", place, action, secret))

    assert lint.found("p") == {("read", str(secret))}


@pytest.mark.parametrize("place", KIND_PLACES)
def test_what_is_declared_is_no_finding(lint: Lint, place: str) -> None:
    """Inputs, the scratch folder and the folder for temporary files are a step's own; a clean step has no findings."""
    source = lint.world.source("in.txt", "declared")
    lint.build(probe("p", place, "work", Path("unused"), **{"from": source}))

    assert lint.found("p") == set()
    assert lint.reports["p"].absent == ()


@pytest.mark.parametrize("place", KIND_PLACES)
def test_listings_and_writes_are_found(lint: Lint, secret: Path, place: str) -> None:
    """A folder that is listed, and a file that is written or removed outside of scratch, are findings."""
    lint.build(
        probe("list", place, "list", secret.parent),
        probe("write", place, "write", secret.with_name("new.txt")),
        probe("remove", place, "remove", secret.with_name("new.txt")),
    )

    assert lint.found("list") == {("listed", str(secret.parent))}
    assert lint.found("write") == {("wrote", str(secret.with_name("new.txt")))}


@pytest.mark.parametrize("place", KIND_PLACES)
def test_links_are_followed(lint: Lint, secret: Path, place: str) -> None:
    """A link in the scratch folder that leads out of it hides nothing."""
    lint.build(probe("p", place, "read_by_link", secret))

    assert lint.found("p") == {("read", str(secret))}


@pytest.mark.parametrize("place", KIND_PLACES)
def test_what_is_looked_for_in_vain_is_told_apart(
    lint: Lint, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file under the home folder that was wanted and missing is no finding, but told: it may appear."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))

    lint.build(probe("p", place, "try", home / ".config"), probe("q", place, "try", tmp_path / "other"))

    assert lint.found("p") == set()
    assert [finding.path for finding in lint.reports["p"].absent] == [str(home / ".config")]
    assert lint.reports["q"].absent == ()


def test_a_failing_step_is_reported_too(lint: Lint, secret: Path) -> None:
    """A step that fails or is killed is watched up to its end."""
    for name, action in (("raises", "read_and_raise"), ("dies", "read_and_die")):
        task = probe(name, "isolated", action, secret)
        executor = LintingExecutor(lint._take)
        assert lint.world.build(task, executor=executor).tasks[0].state is State.FAILED
        assert ("read", str(secret)) in lint.found(name)


def test_an_allowance_says_what_is_no_finding(world: World, secret: Path) -> None:
    """A place that a kind is allowed to read is no finding for that kind; it is for others, and when it is written."""
    lint = Lint(world, Allowance(str(secret), "because"))
    lint.build(
        probe("read", "here", "read", secret),
        probe("other", "isolated", "read", secret),
        probe("write", "here", "write", secret),
    )

    assert lint.found("read") == set()
    assert lint.found("other") == {("read", str(secret))}
    assert lint.found("write") == {("wrote", str(secret))}


def test_threads_of_others_are_not_watched(lint: Lint, secret: Path) -> None:
    """What two steps do at the same time in one process is told of the one that did it."""
    other = secret.with_name("other.txt")
    other.write_text("other")
    lint.build(probe("a", "here", "read_slowly", secret), probe("b", "here", "read_slowly", other))

    assert lint.found("a") == {("read", str(secret))}
    assert lint.found("b") == {("read", str(other))}


def test_watching_changes_nothing(lint: Lint, tmp_path: Path) -> None:
    """A watched build has the keys, the digests and the logs of one that is not."""
    source = lint.world.source("in.txt", "declared")
    tasks = [probe("p", "here", "work", tmp_path, **{"from": source}), toy("q", "isolated", {"from": source})]
    plain = World(lint.world.folder, Store(tmp_path / "plain"), lint.world.ledger).build(*tasks)

    watched = lint.world.build(*tasks, executor=LintingExecutor(lint._take))

    assert [task.key for task in watched.tasks] == [task.key for task in plain.tasks]
    assert watched.results == plain.results
    assert lint.reports.keys() == {"p", "q"}


# strace


@pytest.fixture
def strace() -> None:
    """Skip where there is no strace that works."""
    required(find_strace(), "no strace here: apt-get install strace")


@pytest.mark.usefixtures("strace")
def test_other_processes_are_seen(lint: Lint, secret: Path) -> None:
    """What a program that a step starts reads is found, with the name of that program."""
    lint.build(probe("p", "isolated", "cat", secret))

    assert lint.reports["p"].traced
    assert Finding(How.READ, str(secret), "cat") in lint.reports["p"].findings


@pytest.mark.usefixtures("strace")
def test_native_code_is_seen(lint: Lint, secret: Path) -> None:
    """What C code in the step's own process reads is found, though Python knows nothing of it."""
    lint.build(probe("p", "isolated", "read_by_c", secret))

    assert lint.found("p") == {("read", str(secret))}


@pytest.mark.usefixtures("strace")
def test_programs_out_of_nowhere_are_found(lint: Lint, tmp_path: Path) -> None:
    """A program that lies where no toolchain does is a finding when it is run, and so is what it writes."""
    program, left = tmp_path / "program", tmp_path / "left"
    program.write_text(f"#!/bin/sh\nmkdir {left}\n")
    program.chmod(0o755)

    lint.build(probe("p", "isolated", "start", program))

    assert {("executed", str(program)), ("wrote", str(left))} <= lint.found("p")


@pytest.mark.usefixtures("strace")
def test_what_a_step_leaves_running_does_not_hang(lint: Lint, tmp_path: Path) -> None:
    """A step that leaves a process behind ends when it ends; what is left is killed with it, watched or not."""
    lint.build(probe("p", "isolated", "leave_running", tmp_path / "pid"))

    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: not is_alive(pid), "the end of what was left")


def test_without_strace_the_hook_remains(world: World, secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where strace is missing isolated steps are watched by the hook alone, and the report says so."""
    monkeypatch.setattr("maxbuild.engine.lint.executor.find_strace", lambda: None)
    lint = Lint(world)
    lint.build(probe("p", "isolated", "read", secret), probe("q", "isolated", "cat", secret))

    assert lint.found("p") == {("read", str(secret))}
    assert ("read", str(secret)) not in lint.found("q")
    assert not lint.reports["p"].traced


TRACE = r"""
10 execve("/usr/bin/python3", ["python3"], 0x7ff /* 3 vars */) = 0
10 openat(AT_FDCWD</desk>, "a b.txt", O_RDONLY|O_CLOEXEC <unfinished ...>
11 openat(AT_FDCWD</desk>, "\303\251\"x", O_RDONLY) = 4</desk/\303\251\"x>
10 <... openat resumed>) = 3</real/a b.txt>
10 vfork( <unfinished ...>
12 execve("/home/u/bin/cat", ["cat", "x"], 0x7ff /* 3 vars */) = -1 ENOENT (No such file or directory)
12 execve("/usr/bin/cat", ["cat", "x"], 0x7ff /* 3 vars */ <unfinished ...>
10 <... vfork resumed>) = 12
12 <... execve resumed>) = 0
12 openat(5</folder>, "sub/", O_RDONLY|O_DIRECTORY) = 3</folder/sub>
12 openat(AT_FDCWD</desk>, "denied", O_RDONLY) = -1 EACCES (Permission denied)
12 openat(AT_FDCWD</desk>, "path", O_RDONLY|O_PATH) = 3</desk/path>
12 renameat2(AT_FDCWD</desk>, "old", AT_FDCWD</other>, "new", RENAME_NOREPLACE) = 0
12 symlink("/target", "link") = 0
12 openat(AT_FDCWD</desk>, "gone", O_RDWR|O_CREAT, 0600) = 3</desk/gone (deleted)>
12 +++ exited with 0 +++
garbage
""".strip().splitlines()


def test_traces_are_understood() -> None:
    """Calls in two parts, odd names, folders by number, links, failures, renames: each is read for what it is."""
    seen = [
        (str(access.how), access.path, access.real, access.process, access.found) for access in parse(TRACE, Path("/c"))
    ]

    assert seen == [
        ("executed", "/usr/bin/python3", os.path.realpath("/usr/bin/python3"), "python3", True),
        ("read", '/desk/é"x', '/desk/é"x', "?", True),
        ("read", "/desk/a b.txt", "/real/a b.txt", "python3", True),
        ("executed", "/home/u/bin/cat", "/home/u/bin/cat", "python3", False),
        ("executed", "/usr/bin/cat", os.path.realpath("/usr/bin/cat"), "cat", True),
        ("listed", "/folder/sub", "/folder/sub", "cat", True),
        ("wrote", "/desk/old", "/desk/old", "cat", True),
        ("wrote", "/other/new", "/other/new", "cat", True),
        ("wrote", "/c/link", "/c/link", "cat", True),
        ("wrote", "/desk/gone", "/desk/gone", "cat", True),
    ]


# Allowances


def test_the_nearest_place_decides() -> None:
    """Of two allowances the one nearer to a path decides, and a name that only begins alike is no place above."""
    allowed = Allowances([Allowance("/a", "all"), Allowance("/a/b", "code", code_only=True)])

    assert allowed.cover("/a/x")
    assert allowed.cover("/a/b/module.py")
    assert allowed.cover("/a/b", listed=True)
    assert allowed.cover("/a/b")
    assert not allowed.cover("/a/b/data.json")
    assert not allowed.cover("/ab")
    assert not allowed.cover("/a/x", writing=True)


def test_a_place_that_may_be_filled_may_be_made() -> None:
    """Folders above a place that may be written may be made; what else lies in them may not be touched."""
    allowed = Allowances([Allowance("/a/b/c", "ours", writing=True)])

    assert allowed.cover("/a/b", writing=True)
    assert allowed.cover("/a/b/c/d", writing=True)
    assert not allowed.cover("/a/b/other", writing=True)
    assert not allowed.cover("/a/b", listed=True)


def test_every_allowance_has_a_reason() -> None:
    """Nothing is allowed without a reason, and the user's own folders are not allowed at all."""
    assert all(allowance.reason for allowance in SYSTEM)
    assert not any(Allowances(SYSTEM).cover(place) for place in ("/", "/home", "/root", "/etc", "/tmp", "/var"))


def test_notes_survive_a_torn_line(tmp_path: Path) -> None:
    """What a killed process wrote last may be half a line; what it wrote before counts."""
    from maxbuild.engine.lint.access import read_lines

    access = Access(How.READ, "/a", "/b", "python", True)
    (tmp_path / "notes").write_bytes(access.to_line() + access.to_line()[:10])

    assert list(read_lines(tmp_path / "notes")) == [access]
    assert list(read_lines(tmp_path / "none")) == []
