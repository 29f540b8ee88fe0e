"""The samplers compiled for GPUs on a host without any: what they call and hold is what the target can run."""

from __future__ import annotations

from pathlib import Path

import pytest
from compile_step import compile_in

from maxbuild.engine import canonical_json
from maxbuild.inspect.checks import Outcome
from maxbuild.inspect.kernels import Aim
from maxbuild.inspect.region import inspect_region
from maxbuild.models.samplers import Acceptance, Relaxed, make_samplers
from maxbuild.runtime.samplers import ACCEPT, SAMPLE, TRUNCATE, Strategy
from maxbuild.targets.devices import device_of
from maxbuild.targets.spelling import parse_target

pytestmark = pytest.mark.slow

FULLEST = Acceptance(Strategy.RESIDUAL, Relaxed(10, 0.6))
"""Together with the other samplers it has every operator that samplers are made of: sort, cumsum, gather, argmax."""


@pytest.mark.parametrize(
    ("name", "target"),
    [(TRUNCATE, "cuda:sm_90"), (ACCEPT, "cuda:sm_90"), (SAMPLE, "hip:gfx942"), (ACCEPT, "hip:gfx942")],
)
def test_samplers_are_compiled_for_gpus(tmp_path: Path, name: str, target: str) -> None:
    """The artifact has kernels for the target, and every symbol that it needs is defined or declared somewhere here."""
    region = tmp_path / "region.json"
    region.write_bytes(canonical_json(make_samplers(FULLEST)[name].to_graph().to_json()))
    artifact = compile_in(tmp_path / "scratch", region, target)
    parsed = parse_target(target)
    found = inspect_region([f"samplers/{name}"], artifact.parent, artifact.name, Aim(parsed, device_of(parsed), False))
    assert found.kernels
    assert [check for check in found.checks if check.outcome is Outcome.FAILED] == []
