"""`settle`, the one way out: every end of a command has its text and its exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from cli_world import ROOT
from syrupy.assertion import SnapshotAssertion

from maxbuild.cli import main
from maxbuild.cli.entry import settle
from maxbuild.engine import Store
from maxbuild.errors import MaxbuildError, StoreError, TaskFailed, UsageError
from maxbuild.report.terminal import Terminal

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(("error", "code"), [(TaskFailed, 1), (UsageError, 2), (StoreError, 4), (MaxbuildError, 1)])
def test_errors_become_text_and_code(error: type[MaxbuildError], code: int, capsys: Capture) -> None:
    """An error of ours is its `render`ed text on stderr, and the exit code of its class."""

    def work(_: Terminal) -> int:
        raise error("it failed", causes=["so it is"], hint="try again")

    assert settle(work) == code
    assert capsys.readouterr() == ("", "error: it failed\n  Caused by: so it is\n\nhint: try again\n")


def test_other_exceptions_are_mistakes_of_ours(capsys: Capture) -> None:
    """Only there a traceback is shown, and the error says what to do with it."""

    def work(_: Terminal) -> int:
        raise ZeroDivisionError("three")

    assert settle(work) == 1
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "error: internal error\n  Caused by: ZeroDivisionError: three\n\nhint: " in said


def test_interrupt_says_how_it_goes_on(capsys: Capture) -> None:
    """Ctrl-C outside of a build ends with 130 and no traceback."""

    def work(_: Terminal) -> int:
        raise KeyboardInterrupt

    assert settle(work) == 130
    assert capsys.readouterr().err == "interrupted: the next `warm` goes on from here\n"


def test_warnings_are_one_line(capsys: Capture) -> None:
    """A warning is shown without the place in the code that gave it."""

    def work(_: Terminal) -> int:
        warnings.simplefilter("always")
        warnings.warn("the index was set aside", UserWarning, stacklevel=1)
        return 0

    assert settle(work) == 0
    assert capsys.readouterr().err == "warning: the index was set aside\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_build_leaves_nothing_behind_and_goes_on(number: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C, or the end of a CI job, stops the build with 130, sweeps scratch, and keeps what was done."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "weights").write_text("hang")
    script = (
        "import sys, pathlib\n"
        f"sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests/cli')!r}]\n"
        "from maxbuild.cli import building, entry\n"
        "from maxbuild.engine import Store\n"
        "from toyplans import KINDS, Toy\n"
        f"root = pathlib.Path({str(tmp_path)!r})\n"
        "def work(talk):\n"
        "    wishes = building.Wishes('toy', 1)\n"
        "    with Store(root / 'store') as store:\n"
        "        built = building.build(Toy(root), store, KINDS, wishes, talk)\n"
        "        try:\n"
        "            building.conclude(built, [], wishes, talk, 1.0)\n"
        "        except building.typer.Exit as done:\n"
        "            return done.exit_code\n"
        "    return 0\n"
        "sys.exit(entry.settle(work))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said.rstrip().endswith("interrupted: the next `warm` goes on from here")
    assert "Traceback" not in said
    with Store(tmp_path / "store") as store:
        assert store.statistics().results == 1  # the trace, which was done before
    assert [path for path in (tmp_path / "store/v1/scratch").iterdir() if path.is_dir()] == []


def test_reader_that_goes_away_is_no_error() -> None:
    """A closed pipe ends the command quietly."""
    process = subprocess.Popen(
        [sys.executable, "-m", "maxbuild", "schema"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=30) == 141


@pytest.mark.parametrize(
    "arguments",
    [
        "wram x.yaml",
        "frobnicate",
        "--verison",
        "warm",
        "warm x.yaml --keepgoing",
        "warm x.yaml --jobs many",
        "warm x.yaml --jobs 0",
        "warm x.yaml --jobs",
        "warm x.yaml y.yaml",
        "graph x.yaml --format png",
        "cache inof",
        "plan missing.yaml",
        "schema --output /nowhere/at/all.json",
    ],
)
def test_mistakes_in_the_command_line(arguments: str, snapshot: SnapshotAssertion, capsys: Capture) -> None:
    """Each mistake ends with 2, in the form of all errors, with the nearest name or the way to the help."""
    assert main(arguments.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == snapshot


@pytest.mark.parametrize("arguments", [[], ["cache"]])
def test_no_command_shows_the_help_on_stderr(arguments: list[str], capsys: Capture) -> None:
    """A call that asks for nothing gets the help, as talk, and 2."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Usage: maxbuild")
