"""Nurseries of the plan's kinds: what they import changes nothing of what a step leaves, and it would import it too."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from compile_step import write_region

from maxbuild.engine import JSON, Digest, Document, Job, hash_file
from maxbuild.engine.children import Children
from maxbuild.engine.executor import LocalExecutor, Order
from maxbuild.plan import KINDS

pytestmark = pytest.mark.slow

MODEL = Path(__file__).parents[2] / "examples" / "models" / "tiny-gemma3-draft"

# What makes a process a fork; no step has any use for it.
FORKING = {
    "maxbuild.engine.forking",
    "maxbuild.engine.worker",
    "maxbuild.engine.children",
    "maxbuild.steps.nursery",
    "selectors",
}


class Told(NamedTuple):
    """What a step left, by name, and what it told of its process."""

    outputs: Mapping[str, Digest]
    modules: Mapping[str, list[str]]
    chances: set[float]


@pytest.fixture
def executor() -> Iterator[LocalExecutor]:
    """Return an executor of this host."""
    opened = LocalExecutor()
    yield opened
    opened.close()


def carry_out(
    executor: LocalExecutor,
    folder: Path,
    kind: str,
    params: Mapping[str, JSON],
    inputs: Mapping[str, Path],
    preload: Any,
) -> Told:
    """Carry out a step in `folder`; where it is forked, a process was forked for another folder before."""
    chances = set()
    of_kind = KINDS[kind]._replace(preload=preload)
    for place, step in (("elsewhere", "chance"), ("here", "run")):
        local: dict[str, JSON] = {"kind": kind, "elsewhere": str(folder / "elsewhere")}
        scratch = folder / place / "work"
        scratch.mkdir(parents=True)
        job = Job(params, inputs, scratch, lambda *_: None, local)
        given = of_kind._replace(run=f"watched_steps:{step}")
        outputs = executor.run(Order(kind, given, Document(kind, {}, {}, {}, ()), job, folder / "log"), Children())
        told = json.loads(outputs["told"].read_text())
        chances.add(told.pop("chance"))
    return Told({name: hash_file(path) for name, path in outputs.items() if name != "told"}, told, chances)


def _model(kind: str, **params: JSON) -> tuple[str, Mapping[str, JSON], Mapping[str, Path]]:
    inputs = {"config.json": MODEL / "config.json"}
    inputs |= {f"weights/{path.name}": path for path in MODEL.glob("*.safetensors")} if kind == "load" else {}
    return kind, {"encoding": None, "trust_remote_code": False, **params}, inputs


def _region(folder: Path, target: str) -> tuple[str, Mapping[str, JSON], Mapping[str, Path]]:
    return "compile", {"target": target}, {"region": write_region(folder, "llama", torch.bfloat16, "decoder.full")}


CASES: Mapping[str, Callable[[Path], tuple[str, Mapping[str, JSON], Mapping[str, Path]]]] = {
    "trace": lambda _: _model("trace", max_length=None, use_subgraphs=True),
    "load": lambda _: _model("load"),
    "compile for CPUs": partial(_region, target="cpu:x86-64-v3"),
    "compile for CUDA": partial(_region, target="cuda:sm_90"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_fork_of_the_nursery_does_as_a_fresh_process(
    executor: LocalExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """Every output has the same bytes, though the nursery was started among variables that steer Inductor.

    Nothing is imported in advance that the step would not import, and of another task's folder nothing is left noted.
    """
    kind, params, inputs = CASES[case](tmp_path)
    fresh = carry_out(executor, tmp_path / "fresh", kind, params, inputs, None)
    monkeypatch.setenv("TORCHINDUCTOR_CPP_ENABLE_UNSAFE_MATH_OPT_FLAG", "1")
    monkeypatch.setenv("AOT_INDUCTOR_DEBUG_SYMBOLS", "1")
    monkeypatch.setenv("TRITON_DISABLE_LINE_INFO", "0")
    forked = carry_out(executor, tmp_path / "forked", kind, params, inputs, KINDS[kind].preload)

    assert forked.outputs == fresh.outputs
    assert "torch" in forked.modules["found"]
    assert "torch" not in fresh.modules["found"]
    assert set(forked.modules["found"]) - FORKING <= set(fresh.modules["at the end"])
    assert len(fresh.chances | forked.chances) == 4
    # What is to be replaced has to be known: that one is the nursery's own note.
    assert forked.modules["noted"] == [f"tuple: {tmp_path}/forked/elsewhere/tmp"]
