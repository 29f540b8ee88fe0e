"""`maxbuild targets`: the table of what can be built and run, as text and as a document."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from cli_world import Maxbuild
from cuda_drivers import compile_driver
from syrupy.assertion import SnapshotAssertion

from maxbuild.report.targets import TargetFacts, sources_text, targets_text
from maxbuild.report.terminal import Terminal
from maxbuild.targets.devices import device_of
from maxbuild.targets.host import Found
from maxbuild.targets.parts import Part
from maxbuild.targets.sources import sources_of
from maxbuild.targets.spelling import all_targets, parse_target

CCCL = Part("nvidia-cuda-cccl", "it has the header `nv/target`", "pip install nvidia-cuda-cccl")
STRIP = Part("strip", "it takes out of programs what only debuggers read", "install binutils")
HERE = (
    Found("cpu", ("x86-64-v2", "x86-64-v3")),
    Found("cuda", ("sm_86", "sm_86", "sm_75")),
    Found("hip", (), "/dev/kfd is not there, or not for this user"),
)


def facts(spelling: str, *missing: Part, runs: bool = False) -> TargetFacts:
    """Return the facts of a target on a host where `missing` is."""
    target = parse_target(spelling)
    device, sources = (None, {}) if target.api == "cpu" else (device_of(target), sources_of(target))
    return TargetFacts(target, device, sources, missing, runs)


SHOWN = (
    facts("cpu:x86-64-v3", STRIP, runs=True),
    facts("cuda:sm_80", STRIP, CCCL, runs=True),
    facts("cuda:sm_120", STRIP, CCCL),
    facts("hip:gfx90a", STRIP),
)


@pytest.mark.parametrize("width", [None, 80])
def test_the_table_says_what_is_missing_and_how_to_get_it(width: int | None, snapshot: SnapshotAssertion) -> None:
    """Each missing part is told once, for all that need it; a narrow terminal cuts the product alone."""
    assert targets_text(SHOWN, HERE, Terminal(io.StringIO(), width=width)) == snapshot


def test_where_nothing_is_missing_nothing_is_said(snapshot: SnapshotAssertion) -> None:
    """The table ends with the host."""
    assert targets_text([facts("cuda:sm_90")], HERE, Terminal(io.StringIO())) == snapshot


def test_answers_stand_out_where_there_is_colour() -> None:
    """Yes is green on a terminal, and a word everywhere."""
    painted = targets_text([facts("cuda:sm_90")], HERE, Terminal(io.StringIO(), width=100, colour=True))
    assert "\x1b[32myes\x1b[0m" in painted


def test_sources_are_told_figure_by_figure(snapshot: SnapshotAssertion) -> None:
    """Every figure has its line, its exact value and its source; what was not compared with it says so."""
    text = sources_text([facts("cuda:sm_80"), facts("cpu:x86-64-v3"), facts("hip:gfx1100")], Terminal(io.StringIO()))
    assert text == snapshot


def rows_of(text: str) -> dict[str, Sequence[str]]:
    """Return the last two words of each target's line: whether this host builds it, and runs it."""
    return {
        line.split()[0]: line.split()[-2:] for line in text.splitlines() if line.startswith(("cpu:", "cuda:", "hip:"))
    }


def test_a_host_with_a_driver_runs_what_its_gpu_can(
    maxbuild: Maxbuild, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real command asks the real calls of a driver's library; without it, it builds the same and runs none."""
    compile_driver(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("CUDA_STUB", "8.6")
    none = maxbuild("targets")
    assert (none.returncode, none.stderr) == (0, "")
    assert list(rows_of(none.stdout)) == [target.spelling for target in all_targets()]
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    told = maxbuild("targets")
    assert "this host's NVIDIA GPU is cuda:sm_86\n" in told.stdout
    runs = {target for target, (_, runs) in rows_of(told.stdout).items() if runs == "yes"}
    assert {target for target in runs if target.startswith("cuda:")} == {"cuda:sm_80", "cuda:sm_86"}
    assert [row[0] for row in rows_of(told.stdout).values()] == [row[0] for row in rows_of(none.stdout).values()]


def test_a_bare_target_on_a_host_without_one_is_told(
    maxbuild: Maxbuild, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, snapshot: SnapshotAssertion
) -> None:
    """The flag, why there is none, and the full spellings, in the house's form."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    (tmp_path / "model").mkdir()
    (tmp_path / "m.yaml").write_text(
        "version: 1\nname: m\ntargets: [cpu]\nmodels:\n  main: {model_path: ./model, max_length: 16}\n"
    )
    refused = maxbuild("plan", "m.yaml", "--target", "cuda")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == snapshot


def test_what_is_not_installed_is_told(maxbuild: Maxbuild, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a compiler nothing can be built, and it is the only thing named."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    told = maxbuild("targets")
    assert {row[0] for row in rows_of(told.stdout).values()} == {"no"}
    assert "missing to build for `cpu`, `cuda`, `hip`: C++ compiler" in told.stdout


def test_the_document_has_the_table_and_its_sources(maxbuild: Maxbuild) -> None:
    """A program gets exact figures, what is missing, what the host is, and where each figure is from."""
    document = json.loads(maxbuild("targets", "--json").stdout)
    assert document["schema"] == "maxbuild.targets.v1"
    by_name = {entry["target"]: entry for entry in document["targets"]}
    hopper = by_name["cuda:sm_90"]
    assert hopper["device"]["shared_memory_per_block"] == 232448
    assert hopper["device"]["capability"] == [9, 0]
    assert hopper["sources"]["shared_memory_per_block"]["section"] == "cuda/__device/arch_traits.h"
    assert by_name["cpu:x86-64-v3"]["device"] is None
    assert list(document["host"]) == ["cpu", "cuda", "hip"]


def test_a_document_and_a_listing_at_once_are_refused(maxbuild: Maxbuild) -> None:
    """There is one form of output."""
    refused = maxbuild("targets", "--json", "--sources")
    assert refused.returncode == 2
    assert "`--sources` and `--json` do not go together" in refused.stderr
