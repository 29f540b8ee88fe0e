"""The words of `tune`: what has no choice, a host without the device, what was found, and how it is taken away."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cli_world import Maxbuild
from syrupy.assertion import SnapshotAssertion
from tuning.toy_tuning import tuning, write_header

from maxbuild.report.terminal import Terminal
from maxbuild.report.tuning import tuning_text
from maxbuild.runtime.tuning import header_digest, tuning_file
from maxbuild.tuning.record import write_tuning

ALTERNATIVES = {"block": {"1": "regions/fast.pt2", "2": "regions/wrong.pt2"}}
CHOICES = {"regions/block.pt2": "regions/fast.pt2"}
FOUND = tuning("0" * 64, CHOICES)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return a package with alternatives, for a GPU."""
    return write_header(tmp_path / "cuda-sm_90", ALTERNATIVES)


@pytest.mark.parametrize("width", [None, 80])
def test_the_forms_of_a_region_stand_together(width: int | None, snapshot: SnapshotAssertion) -> None:
    """A line for each: times by workload with their share of the default's, what runs, and why a form is left out."""
    second = [replace(trial, region="main/before", path=f"regions/b{trial.rank}.pt2") for trial in FOUND.trials[:2]]
    second[1] = replace(second[1], nanoseconds={"prefill 512": 1_234_567}, ratios={"prefill 512": 1.2})
    found = replace(FOUND, trials=[*FOUND.trials, *second])
    assert tuning_text(found, Terminal(sys.stdout, width)) == snapshot


def test_nothing_found_in_a_file_can_steer_a_terminal() -> None:
    """A file is anybody's: control characters in it are told, not carried out."""
    bad = "\x1b[2J\n"
    made_with = replace(FOUND.made_with, device=bad, torch=bad)
    trials = [replace(trial, region=bad, nanoseconds={bad: 1}, trouble=trial.trouble and bad) for trial in FOUND.trials]
    told = tuning_text(replace(FOUND, made_with=made_with, driver=bad, trials=trials), Terminal(sys.stdout))
    assert "\x1b" not in told
    assert told.count("\n") == tuning_text(FOUND, Terminal(sys.stdout)).count("\n")


def test_what_has_no_choice_is_told(
    maxbuild: Maxbuild, tmp_path: Path, steady: Callable[[str], str], snapshot: SnapshotAssertion
) -> None:
    """Packages for CPUs, packages without alternatives, folders that are none, options that contradict one another."""
    write_header(tmp_path / "cpu", {}, "cpu:x86-64-v3")
    write_header(tmp_path / "gpu", {})
    told = []
    for arguments in (("cpu",), ("gpu",), ("nowhere",), ("gpu", "--show"), ("gpu", "--show", "--remove")):
        done = maxbuild("tune", *arguments)
        told.append(f"$ tune {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}")
    assert steady("\n".join(told)) == snapshot


def test_without_the_device_nothing_is_done(maxbuild: Maxbuild, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that cannot run the package is told what it has instead, and no file is written."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    done = maxbuild("tune", str(package))
    assert (done.returncode, done.stdout) == (1, "")
    assert "the package is built for `cuda:sm_90`, which this host cannot run" in done.stderr
    assert "CUDA_VISIBLE_DEVICES is empty" in done.stderr
    assert "Traceback" not in done.stderr
    assert not tuning_file(package).exists()


def test_what_was_found_is_shown_and_taken_away(maxbuild: Maxbuild, package: Path) -> None:
    """`--show` prints it, as a document too, and says where it is of another build; `--remove` ends it."""
    file = tuning_file(package)
    write_tuning(tuning(header_digest(package), CHOICES), file)
    done = maxbuild("tune", str(package), "--show")
    assert (done.returncode, done.stderr) == (0, "")
    assert "× 0.83" in done.stdout
    assert "1 of 1 region runs an alternative" in done.stdout
    document = json.loads(maxbuild("tune", str(package), "--show", "--json").stdout)
    assert document["schema"] == "maxbuild.tune.v1"
    assert (document["file"], document["choices"]) == (str(file), CHOICES)
    write_tuning(FOUND, file)
    done = maxbuild("tune", str(package), "--show")
    assert (done.returncode, done.stderr) == (0, "it was made for another build of the package, and is not used\n")
    assert maxbuild("tune", str(package), "--remove").stderr == f"removed {file}\n"
    done = maxbuild("tune", str(package), "--remove")
    assert (done.returncode, done.stderr) == (0, f"there is no {file}\n")


def test_a_file_that_is_no_tuning_is_an_error_of_show_and_no_traceback(maxbuild: Maxbuild, package: Path) -> None:
    """What is wrong, and both ways on."""
    tuning_file(package).write_text("[]")
    done = maxbuild("tune", str(package), "--show")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: `{tuning_file(package)}` is no tuning that this version can read\n")
    assert "hint: `maxbuild tune --remove` removes it" in done.stderr
