"""`kv_cache_format`: caches of another dtype than the model computes in."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from model_families import as_region, bind, make_config, make_eager_model, worst_error
from torch import Tensor

from maxbuild.kernels.attention_reference import attend_plainly
from maxbuild.models.architecture import build_model
from maxbuild.models.lowering import attend_in_torch
from maxbuild.models.operators import attention
from maxbuild.models.outline import Outline, outline

# Capped scores go step by step, plain ones through torch's fused attention.
FAMILIES = ["llama", "gemma2"]


def trace(family: str, dtype: torch.dtype | None, *, use_subgraphs: bool = True) -> Outline:
    """Outline a family with caches in `dtype`."""
    model = build_model(make_config(family, num_hidden_layers=2), torch.float32, 64, trust_remote_code=False)
    return outline(model, 64, use_subgraphs=use_subgraphs, cache_dtype=dtype)


def rounding(dtype: torch.dtype) -> Any:
    """Return attention over caches of the model's own dtype, to which what is cached comes rounded to `dtype`."""

    def attend(query: Tensor, key: Tensor, value: Tensor, *rest: Any) -> Tensor:
        return attend_in_torch(query, key.to(dtype).to(key.dtype), value.to(dtype).to(value.dtype), *rest)

    return attend


@pytest.mark.parametrize("family", FAMILIES)
def test_a_coarser_cache_computes_what_rounding_keys_and_values_does(family: str) -> None:
    """Prefill and decode over bfloat16 caches equal those over float32 caches of rounded keys and values."""
    eager = make_eager_model(make_config(family, num_hidden_layers=2))
    coarse, fine = trace(family, torch.bfloat16), trace(family, None)
    lowering = {"maxbuild.attention.default": rounding(torch.bfloat16)}
    rounded = {name: as_region(graph.to_module(torch.device("cpu"), lowering)) for name, graph in fine.regions.items()}
    got, expected = bind(coarse, eager), bind(fine, eager, rounded)
    tokens = torch.randint(0, 256, (2, 12), generator=torch.Generator().manual_seed(3))
    ours, theirs, plain = got.caches(2), expected.caches(2), bind(fine, eager).caches(2)
    places = got.numbers[:10].expand(2, -1)
    arguments = (tokens[:, :10], places, places)
    a = got.forward(*arguments, ours, 10)
    torch.testing.assert_close(a, expected.forward(*arguments, theirs, 10), atol=1e-6, rtol=0)
    for place in (10, 11):
        newest = (tokens[:, place : place + 1], torch.full((2, 1), place), torch.zeros(2, 1, dtype=torch.int64))
        b = got.forward(*newest, ours, place + 1)
        torch.testing.assert_close(b, expected.forward(*newest, theirs, place + 1), atol=1e-6, rtol=0)
    # The control: rounding matters in these models, so the comparison could have failed.
    assert (a - bind(fine, eager).forward(*arguments, plain, 10)).abs().max() > 1e-4


@pytest.mark.parametrize("use_subgraphs", [True, False])
def test_the_format_is_in_the_program_and_in_what_regions_take(use_subgraphs: bool) -> None:
    """Every cache of the program has the dtype, and so has every cache that a region takes; nothing else changes."""
    outlined = trace("llama", torch.bfloat16, use_subgraphs=use_subgraphs)
    assert {cache.dtype for cache in outlined.program.caches} == {"bfloat16"}
    taken = {spec.dtype for graph in outlined.regions.values() for spec in graph.inputs if spec.kind == "cache"}
    assert taken == {"bfloat16"}
    plain = trace("llama", None, use_subgraphs=use_subgraphs)
    assert {cache.dtype for cache in plain.program.caches} == {"float32"}
    assert dataclasses.replace(outlined.program, caches=plain.program.caches) == plain.program


def test_caches_are_allocated_in_the_format() -> None:
    """The runtime's caches take half of the memory."""
    eager = make_eager_model(make_config("llama", num_hidden_layers=2))
    coarse, fine = bind(trace("llama", torch.bfloat16), eager), bind(trace("llama", None), eager)
    sizes = [sum(t.nbytes for t in model.caches(1).tensors.values()) for model in (coarse, fine)]
    assert sizes[0] * 2 == sizes[1]
    assert worst_error(coarse, eager, [20, 7]) < 5e-2


@pytest.mark.parametrize(("query", "cache"), [("float32", "bfloat16"), ("bfloat16", "float32")])
@pytest.mark.parametrize("softcap", [0.0, 20.0])
def test_the_operator_equals_the_reference_over_a_cache_of_another_dtype(
    query: str, cache: str, softcap: float
) -> None:
    """Values in the dtype of the query, caches to the bit, coarser and finer than the query, fused and step by step."""
    random = torch.Generator().manual_seed(4)
    dtype, cache_dtype = getattr(torch, query), getattr(torch, cache)
    new = [torch.randn(2, heads, 3, 8, generator=random).to(dtype) for heads in (4, 2, 2)]
    caches = [torch.randn(2, 2, 12, 8, generator=random).to(cache_dtype) for _ in range(2)]
    theirs = [tensor.clone() for tensor in caches]
    positions = torch.tensor([[5, 6, 7], [2, 3, 4]])
    got = attention(*new, *caches, positions, torch.arange(8), 0.3, 0, softcap, None)
    expected = attend_plainly(*new, *theirs, positions, 0.3, 0, softcap, None)
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), expected, atol=1e-5 if query == "float32" else 2e-2, rtol=0)
    assert all(torch.equal(a, b) for a, b in zip(caches, theirs, strict=True))
