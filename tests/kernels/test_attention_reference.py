"""The reference that kernels are held to, against what regions for CPUs compute."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from interpreted import Case, make_tensors

from maxbuild.kernels.attention_reference import attend_plainly
from maxbuild.models.lowering import attend_in_torch

PLAIN = Case(starts=(9, 0, 4), sequence=6, group=3, key_heads=2, key_size=8, value_size=8, garbage=0.0)


@pytest.mark.parametrize(
    "options",
    [{}, {"window": 4}, {"sinks": True}, {"softcap": 1.5}, {"value_size": 24}, {"reversed_tokens": True}],
    ids=str,
)
def test_the_lowering_for_cpus_agrees_with_the_reference(options: dict[str, object]) -> None:
    """What CPUs run, through torch's fused attention or step by step, is what GPUs' kernels are held to."""
    case = replace(PLAIN, **options)
    mine, theirs = make_tensors(case), make_tensors(case)
    attended = attend_plainly(
        *(mine.query, mine.key, mine.value, mine.key_cache, mine.value_cache, mine.positions),
        *(case.scale, case.window, case.softcap, mine.sinks),
    )
    lowered = attend_in_torch(
        *(theirs.query, theirs.key, theirs.value, theirs.key_cache, theirs.value_cache),
        *(theirs.positions, theirs.key_positions, case.scale, case.window, case.softcap, theirs.sinks),
    )
    torch.testing.assert_close(lowered.double(), attended, rtol=1e-5, atol=1e-5)
    assert torch.equal(mine.key_cache, theirs.key_cache)
    assert torch.equal(mine.value_cache, theirs.value_cache)


def test_one_key_is_attended_to_whole() -> None:
    """The first token of a row gets its own value; with a sink of the same score, half of it."""
    one = torch.ones(1, 1, 1, 4)
    caches = torch.zeros(1, 1, 2, 4), torch.zeros(1, 1, 2, 4)
    positions = torch.zeros(1, 1, dtype=torch.int64)
    alone = attend_plainly(one, one, one * 3, *caches, positions, 0.5, 0, 0.0, None)
    assert torch.equal(alone, torch.full((1, 1, 1, 4), 3.0, dtype=torch.float64))
    halved = attend_plainly(one, one, one * 3, *caches, positions, 0.5, 0, 0.0, torch.tensor([2.0]))
    assert torch.equal(halved, torch.full((1, 1, 1, 4), 1.5, dtype=torch.float64))
