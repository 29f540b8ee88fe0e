"""The recipe for a machine with a GPU: what it carries there, and what it tells where stages fail or cannot run."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from spaces import ROOT
from tuning.toy_tuning import tuning

sys.path.append(str(ROOT))  # benches are no package of the distribution

from bench import decode, gpu, gpu_wheels, startup
from bench.fixtures import Subject
from bench.gpu import Plan, Stages, measure
from bench.harness import BenchError, Table

SUBJECT = Subject("toy", Path(), Path(), has_draft=True)


def test_carries_all_but_torch_and_what_it_and_transformers_need() -> None:
    """What the machine has in versions that go with its torch stays; the rest is named, with its bounds."""
    carried = {requirement.name: str(requirement.specifier) for requirement in gpu_wheels.lacking()}
    assert {"diskcache", "pydantic", "nvidia-cuda-cccl", "rich", "httpx2"} <= carried.keys()
    assert not {"torch", "triton", "transformers", "numpy", "huggingface_hub", "tokenizers"} & carried.keys()
    assert carried["pydantic"] == "<3,>=2.9"


def test_a_stage_that_fails_is_told_and_what_needs_it_is_left_out() -> None:
    """The others run; the count of failures decides the exit code."""

    def fail(_: Subject) -> str:
        raise BenchError("maxbuild verify exited with 1:\nerror: no\n  Caused by: an error\n\nhint: none")

    stages = Stages()
    subject = stages.build("build", lambda: SUBJECT, lambda made: made.name)
    assert stages.check("verify", subject, fail, str) is None
    assert stages.check("load", subject, lambda made: made.name, str) == "toy"
    assert stages.check("run", None, lambda made: made.name, str) is None
    told = [(row[0], row[1], row[3]) for row in stages.table().rows]
    assert told == [
        ("build", "done", "toy"),
        ("verify", "failed", "error: no; Caused by: an error"),
        ("load", "done", "toy"),
        ("run", "left out", "there is no package"),
    ]
    assert stages.failed == 1


def test_what_tuning_found_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """How many regions run another form, and what gained most; where none could be timed, the first alone."""
    found = tuning("0" * 64, {"regions/block.pt2": "regions/fast.pt2"})
    side = gpu.Side("cuda:sm_90", "cuda:0", argparse.Namespace(), tmp_path)
    for trials, says in (
        (found.trials, "1 of 1 regions run another; least share of the default's time 0.83 (main/block, decode 1)"),
        ([found.trials[2]], "1 of 1 regions run another"),
    ):
        answer = SimpleNamespace(stdout=json.dumps(replace(found, trials=trials).to_json()))
        monkeypatch.setattr(gpu, "run_process", lambda *_, answer=answer: answer)
        assert gpu._tune(side, SUBJECT) == says


def tables_of(folder: Path, **options: object) -> Mapping[str, Table]:
    """Return the tables of a run by title, whose one build is there at once."""
    given = argparse.Namespace(
        dry_run=True, target=None, device="cuda:0", layers=0, repetitions=1, tokens=1, starts=1, store=None
    )
    vars(given).update(options)
    plans = [Plan("toy", lambda: SUBJECT, has_draft=True)]
    return {table.title: table for table in measure(given, folder, Stages(), lambda _: plans).tables}


def test_a_dry_run_has_the_tables_of_a_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a GPU the package is built, all else is left out with the reason, and the tables keep their form."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    tables = tables_of(tmp_path)
    states = tables["stages"].rows
    assert [row[1] for row in states] == ["done", *["left out"] * 6]
    assert all("CUDA_VISIBLE_DEVICES is empty" in str(row[3]) for row in states[1:])
    speeds, starts = tables["toy, cuda:0"], tables["toy, cuda:0, starts"]
    assert (speeds.columns, starts.columns) == (decode.COLUMNS, startup.COLUMNS)
    assert [row[0] for row in speeds.rows] == list(decode.sides(SUBJECT))
    assert all(cell is None for row in (*speeds.rows, *starts.rows) for cell in row[1:])


def test_a_run_without_a_gpu_is_refused_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is built where nothing can be checked; the way out is told."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(BenchError, match=r"no NVIDIA GPU.*CUDA_VISIBLE_DEVICES is empty(.|\n)*--dry-run"):
        tables_of(tmp_path, dry_run=False)
