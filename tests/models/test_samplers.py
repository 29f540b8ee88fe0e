"""The samplers as graphs: the same for every model, pure, and computing what they do as plain torch."""

from __future__ import annotations

import functools
import itertools
import json
import re
from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor

from maxbuild.engine import canonical_json
from maxbuild.errors import PackageError
from maxbuild.models.graph import RegionGraph
from maxbuild.models.samplers import _INPUTS, Acceptance, Relaxed, Sampler, make_samplers, program_of
from maxbuild.runtime.samplers import ACCEPT, ACCEPT_GREEDY, SAMPLE, TRUNCATE, SamplerProgram, Strategy

CPU = torch.device("cpu")
ACCEPTANCES = [Acceptance(strategy, coin_rate=0.75) for strategy in Strategy] + [
    Acceptance(Strategy.RESIDUAL, Relaxed(3, 0.25))
]

# Calls whose results are chance, which no pure region may hold.
RANDOM = ("rand", "bernoulli", "multinomial", "exponential", "uniform", "dropout")


def inputs_of(sampler: Sampler, batch: int, logits: int, vocabulary: int) -> list[Tensor]:
    """Return inputs of these sizes, from a fixed seed."""
    random = torch.Generator().manual_seed(batch + 10 * logits + 100 * vocabulary)
    sizes: Mapping[str, int] = {"batch": batch, "logits": logits, "vocabulary": vocabulary}

    def made(name: str) -> Tensor:
        dtype, shape = _INPUTS[name]
        size = [sizes[axis] if isinstance(axis, str) else axis for axis in shape]
        match name:
            case "proposed" | "markers":
                return torch.randint(0, vocabulary, size, generator=random)
            case "proposals":
                return torch.randint(0, logits, size, generator=random)
            case "top_k":
                return torch.randint(0, vocabulary + 2, size, generator=random)
            case "least_logit" | "least_logits":
                return torch.full(size, -3.0)
            case "thinking":
                return torch.rand(size, generator=random) < 0.5
            case "draft_probabilities":
                return torch.softmax(torch.randn(size, generator=random), -1)
            case "temperature":
                return torch.tensor([0.0, 0.5, 1.0, 2.0])[torch.randint(0, 4, size, generator=random)]
            case "top_p" | "pick" | "picks" | "coins":
                return torch.rand(size, generator=random, dtype=getattr(torch, dtype)).clamp(1e-3, 0.999)
            case _:
                return torch.randn(size, generator=random, dtype=getattr(torch, dtype)) * 2

    return [made(name) for name in sampler.call.values]


def close(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    """Tell whether outputs are the same up to rounding."""
    return all(
        torch.allclose(a, b) if a.is_floating_point() else torch.equal(a, b) for a, b in zip(one, other, strict=True)
    )


@functools.cache
def document(acceptance: Acceptance | None, name: str) -> bytes:
    """Return the canonical bytes of a sampler's graph."""
    return canonical_json(make_samplers(acceptance)[name].to_graph().to_json())


ACCEPTING = [(acceptance, name) for acceptance in ACCEPTANCES for name in (ACCEPT, ACCEPT_GREEDY)]
EACH = [(None, SAMPLE), (None, TRUNCATE), *ACCEPTING]


@pytest.mark.parametrize(("acceptance", "name"), EACH, ids=str)
def test_a_graph_computes_what_the_sampler_does_for_all_sizes(acceptance: Acceptance | None, name: str) -> None:
    """Batch, places and vocabulary are dynamic; read back from JSON the graph gives the same tokens."""
    sampler = make_samplers(acceptance)[name]
    module = RegionGraph.from_json(json.loads(document(acceptance, name))).to_module(CPU)
    for sizes in itertools.product((1, 3), (1, 5), (4, 50)):
        inputs = inputs_of(sampler, *sizes)
        assert close(module(*inputs), sampler(inputs))


@pytest.mark.parametrize(("acceptance", "name"), EACH, ids=str)
def test_samplers_hold_no_chance_and_change_nothing(acceptance: Acceptance | None, name: str) -> None:
    """No operator draws numbers or writes into an input."""
    graph = RegionGraph.from_json(json.loads(document(acceptance, name)))
    names = {node.operator.split(".")[1].strip("_") for node in graph.nodes}
    assert not {called for called in names if any(word in called for word in RANDOM)}
    mutating = {node.operator for node in graph.nodes if re.search(r"[a-z]_\.", node.operator)}
    assert not mutating


def test_a_strategy_is_in_the_samplers_that_accept_alone() -> None:
    """What picks tokens is the same whatever the strategy, so another one compiles `accept` and nothing else."""
    for name in (SAMPLE, TRUNCATE):
        assert document(None, name) == document(ACCEPTANCES[0], name)
    assert len({document(acceptance, ACCEPT) for acceptance in ACCEPTANCES}) == len(ACCEPTANCES)
    # At temperature 0 greedy, residual and typical acceptance are one.
    assert len({document(acceptance, ACCEPT_GREEDY) for acceptance in ACCEPTANCES}) == len(ACCEPTANCES) - 2


def test_a_program_comes_back_from_its_json() -> None:
    """How samplers are called is data; another schema or another strategy is refused."""
    for acceptance in (None, *ACCEPTANCES):
        program = program_of(make_samplers(acceptance), acceptance)
        said = json.loads(canonical_json(program.to_json()))
        assert SamplerProgram.from_json(said) == program
        for wrong in ({"schema": "maxbuild.samplers.v0"}, {"strategy": "hope"}, {"regions": [1]}):
            with pytest.raises(PackageError, match="samplers"):
                SamplerProgram.from_json({**said, **wrong})
