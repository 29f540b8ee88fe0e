"""`maxbuild warm --verify-reproducible`: a package that a second build makes otherwise is told, down to the byte."""

from __future__ import annotations

import io
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
import typer
from cli_world import ROOT, Maxbuild
from spaces import Space
from syrupy.assertion import SnapshotAssertion
from toypackages import KINDS, LEAKS, VARIABLE, ToyPackages

from maxbuild.cli.building import Wishes, build, conclude
from maxbuild.cli.reproducible import verify_reproducible
from maxbuild.engine import Store, execute
from maxbuild.errors import StoreError
from maxbuild.report.terminal import Terminal
from maxbuild.reproducible.clean_room import surroundings
from maxbuild.reproducible.compare import Build, Comparison, compare_packages

Capture = pytest.CaptureFixture[str]
Steady = Callable[[str], str]
WISHES = Wishes("toy", 2)
ONE_BY_ONE = replace(WISHES, jobs=1)


@dataclass
class Workshop:
    """A toy plan that leaves packages, and a store; `verify` does what the command does once a manifest is read."""

    folder: Path
    store: Store

    def verify(self, *regions: str, orders: str = "", wishes: Wishes = WISHES) -> tuple[int, str]:
        """Build and build again; return the exit code and what was said on stderr."""
        (self.folder / "orders").write_text(f"{' '.join(regions)}\n{orders}")
        toy = ToyPackages(self.folder, regions)
        said = io.StringIO()
        talk = Terminal(said)
        built = build(toy, self.store, KINDS, wishes, talk)
        again = partial(verify_reproducible, toy, built.report, self.store, KINDS, wishes, talk)
        try:
            conclude(built, [Path("packages/toy/cpu")], wishes, talk, 0.25, again)
        except typer.Exit as done:
            return done.exit_code, said.getvalue()
        return 0, said.getvalue()

    def left_in_scratch(self) -> list[Path]:
        """Return what lies in the scratch folders of the store's sessions."""
        self.store.close()
        return [path for path in (self.store.root / "v1/scratch").iterdir() if path.is_dir()]


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    """Return a workshop in which nothing was built."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "toy"}')
    with Store(tmp_path / "store") as store:
        yield Workshop(folder, store)


@pytest.fixture
def steadier(steady: Steady, monkeypatch: pytest.MonkeyPatch) -> Steady:
    """Return a filter that takes out of a text what differs from run to run; what toys leak is the same in each."""
    for name, content in {"LOGNAME": "me", "LC_ALL": "C", "TZ": "UTC"}.items():
        monkeypatch.setenv(name, content)

    def filtered(text: str) -> str:
        return re.sub(r"(?m)^(built +\S.*?)  #.*", r"\1", steady(text))

    return filtered


def told(said: str) -> str:
    """Return what was said from the second build on."""
    return said[said.index("building again") :]


def test_packages_that_come_out_the_same_are_told_so(workshop: Workshop, capsys: Capture, steadier: Steady) -> None:
    """Exit code 0, one line that counts what was compared, and the paths on stdout as ever."""
    code, said = workshop.verify("clean", "other")
    assert code == 0, said
    line = steadier(said).splitlines()[-1]
    assert line == (
        "reproducible: 1 package, 7 files, 2.1 kB identical byte for byte, 1 file of them the models' own;"
        " built again in #.## s"
    )
    assert capsys.readouterr().out == "packages/toy/cpu\n"
    assert workshop.left_in_scratch() == []


def test_each_leak_is_found_and_named(workshop: Workshop, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a compile takes from HOME, hash seed, folder, time and so on makes its region, and no other, differ."""
    monkeypatch.setenv(VARIABLE, "of this shell alone")
    code, _ = workshop.verify("clean", *LEAKS, wishes=replace(WISHES, json=True))
    (package,) = json.loads(capsys.readouterr().out)["reproducible"]["packages"]
    assert code == 1
    assert {found["region"] for found in package["differences"]} == {f"main/{leak}" for leak in LEAKS}
    assert {found["member"] for found in package["differences"]} == {"region/code"}
    assert set(package["origins"]) == {f"compile main/{leak}" for leak in LEAKS}


def test_first_difference_is_told_with_its_task(
    workshop: Workshop, steadier: Steady, snapshot: SnapshotAssertion
) -> None:
    """The error names file, region, member, byte, the bytes around it, and the task that did it."""
    code, said = workshop.verify("clean", "locale", "zone", wishes=ONE_BY_ONE)
    assert code == 1
    assert steadier(told(said)) == snapshot
    assert workshop.left_in_scratch() == []


def test_a_difference_is_traced_to_where_it_began(
    workshop: Workshop, steadier: Steady, snapshot: SnapshotAssertion
) -> None:
    """A compile that was given something else is not to blame: the trace is, although it ran in this process before."""
    code, said = workshop.verify("clean", orders="trace leaks", wishes=ONE_BY_ONE)
    assert code == 1
    assert steadier(told(said)) == snapshot


def test_what_the_store_serves_is_what_is_compared(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was made under other circumstances is found where it is served, and gone once the task ran again."""
    monkeypatch.setenv(VARIABLE, "an older host's")
    assert workshop.verify("variable")[0] == 1
    monkeypatch.delenv(VARIABLE)
    code, said = workshop.verify("variable")
    assert (code, "nothing to do" in said) == (1, True)
    assert workshop.verify("variable", wishes=replace(WISHES, rerun=("compile main/variable",)))[0] == 0


def test_what_is_pinned_by_content_is_not_downloaded_again(workshop: Workshop) -> None:
    """The clean room has the downloads of the first store, also where the first had to run anew; all else runs."""
    code, said = workshop.verify("clean", wishes=replace(WISHES, rerun=("fetch main",)))
    assert code == 0
    assert (workshop.folder / "ledger").read_text() == "fetched\n"
    assert sorted(set(re.findall(r"^built +(\w+)", told(said), re.MULTILINE))) == [
        "build",
        "compile",
        "load",
        "package",
        "trace",
    ]


def test_a_second_build_that_fails_is_told_and_its_log_kept(
    workshop: Workshop, steadier: Steady, snapshot: SnapshotAssertion
) -> None:
    """Exit code 1, what failed, and the log where `maxbuild log` finds it."""
    code, said = workshop.verify("clean", orders="fail", wishes=ONE_BY_ONE)
    assert code == 1
    assert steadier(told(said)) == snapshot
    assert workshop.left_in_scratch() == []
    log = Path(said.partition("see the whole output in ")[2].split("\n")[0])
    assert log.read_text().endswith("the linker says no\n")
    assert log.is_relative_to(workshop.store.root / "v1/logs")


def test_a_build_that_fails_is_not_done_again(workshop: Workshop) -> None:
    """There is nothing to compare with."""
    (workshop.folder / "config.json").unlink()
    code, said = workshop.verify("clean")
    assert code == 1
    assert "building again" not in said


def test_a_disk_without_room_is_told_before_anything_is_built(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says in bytes what is needed and what is there; nothing was done, nothing is left."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1000, 999, 1))
    with pytest.raises(StoreError, match="no room for a second build") as raised:
        workshop.verify("clean")
    assert re.fullmatch(
        r"it needs \d{3,4} bytes where the store `.*` is, and 1 bytes are free there", raised.value.causes[0]
    )
    assert workshop.left_in_scratch() == []


def compared(workshop: Workshop, first: ToyPackages, second: ToyPackages) -> Comparison:
    """Build two plans, each in a store of its own, and compare their packages."""
    kinds = {name: kind._replace(isolated=False) for name, kind in KINDS.items()}
    with Store(workshop.folder / "another store") as other:
        builds = []
        for toy, store in ((first, workshop.store), (second, other)):
            (workshop.folder / "orders").write_text(" ".join(toy.regions))
            builds.append(Build(execute(toy, store, kinds, scope="toy", jobs=1), store))
        (comparison,) = compare_packages(first.package_tasks(), *builds)
        return comparison


def test_files_that_one_package_alone_has_are_told(workshop: Workshop) -> None:
    """A region that came or went is a difference like any other, whichever package has it."""
    differences = compared(
        workshop, ToyPackages(workshop.folder, ("clean", "gone")), ToyPackages(workshop.folder, ("clean", "come"))
    ).differences
    assert [(found.region, found.maker, found.note) for found in differences] == [
        (("main", "gone"), "compile main/gone", "the first package alone has it"),
        (("main", "come"), "compile main/come", "the second package alone has it"),
    ]


def test_headers_are_compared(workshop: Workshop) -> None:
    """Where all else is equal, the header's own difference is told."""
    first, second = ToyPackages(workshop.folder), ToyPackages(workshop.folder, name="other")
    (difference,) = compared(workshop, first, second).differences
    assert (difference.path, difference.maker) == ("package.json", "package @ toy")


def test_document_of_identical_packages(workshop: Workshop, capsys: Capture) -> None:
    """One member of the document of `warm` says what was compared."""
    assert workshop.verify("clean", wishes=replace(WISHES, json=True))[0] == 0
    document = json.loads(capsys.readouterr().out)["reproducible"]
    (package,) = document["packages"]
    assert (document["identical"], document["errors"], package["differences"]) == (True, [], [])
    assert (package["target"], package["files"], package["shared"]) == ("cpu:x86-64-v3", 6, 1)


def test_surroundings_are_other_than_any_user_has_them(tmp_path: Path) -> None:
    """What may differ does, whatever this process has; what leads to tools stays; nothing else is handed on."""
    usual = {"PATH": "/bin", "CXX": "c++", "HOME": "/home/me", "USER": "me", "TORCHINDUCTOR_FX_GRAPH_CACHE": "1"}
    for spoken, threads in (("C", "3"), ("en_US.UTF-8", "8")):
        environ = {**usual, "LC_ALL": spoken, "OMP_NUM_THREADS": threads}
        found = surroundings(tmp_path, environ)
        assert (found["PATH"], found["CXX"]) == ("/bin", "c++")
        assert "TORCHINDUCTOR_FX_GRAPH_CACHE" not in found
        assert all(found[name] != environ[name] for name in ("HOME", "USER", "LC_ALL", "OMP_NUM_THREADS"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_second_build_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C or the end of a CI job: 130, and the clean room is gone; killed, it is gone with the next session."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "orders").write_text("clean\nhang")
    script = (
        "import sys, pathlib\n"
        f"sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests/cli')!r}, {str(ROOT / 'tests')!r}]\n"
        "from maxbuild.cli import entry\n"
        "from maxbuild.engine import Store\n"
        "from test_cli_reproducible import Workshop\n"
        f"root = pathlib.Path({str(tmp_path)!r})\n"
        "def work(_):\n"
        "    with Store(root / 'store') as store:\n"
        "        return Workshop(root, store).verify('clean', orders='hang')[0]\n"
        "sys.exit(entry.settle(work))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "running").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    scratch = tmp_path / "store/v1/scratch"
    if number is signal.SIGKILL:
        assert list(scratch.glob("*/reproducible-*"))
        with Store(tmp_path / "store") as store, store.workspace("another"):
            assert list(scratch.glob("*/reproducible-*")) == []
    else:
        assert (process.returncode, said) == (130, "interrupted: the next `warm` goes on from here\n")
    assert [path for path in scratch.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize("other", ["--check", "--frozen", "--dry-run", "--lint"])
def test_what_runs_nothing_does_not_go_with_it(other: str, maxbuild: Maxbuild) -> None:
    """Two wishes that contradict each other end with 2 before a manifest is read."""
    done = maxbuild("warm", "any.yaml", other, "--verify-reproducible")
    message = f"error: `{other}` and `--verify-reproducible` do not go together\n\nhint: leave one of them out\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message)


@pytest.mark.slow
def test_the_demo_is_reproducible(demo_package: Path, space: Space) -> None:
    """The real command, the real steps: built again from an empty store in other surroundings, no byte is another."""
    done = space.maxbuild("warm", ROOT / "manifests" / "demo.yaml", "--verify-reproducible", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    (package,) = document["reproducible"]["packages"]
    on_disk = [path for path in Path(space.folder, document["packages"][0]).rglob("*") if path.is_file()]
    assert package["identical"]
    assert package["files"] == len(on_disk)
    assert package["bytes"] == sum(path.stat().st_size for path in on_disk)
    assert {task["state"] for task in document["tasks"]} == {"cached"}
