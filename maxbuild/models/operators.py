"""The operators of ours that traced graphs hold: attention over a cache, and the matmul of experts.

Invariant: a trace never says *how* these are computed. Each target lowers them in its own way at compile time, so the
traced graph is the same for all targets. What runs here, in plain torch, is the reference for all of them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from maxbuild.models.lowering import attend_in_torch


@torch.library.custom_op("maxbuild::attention", mutates_args=("key_cache", "value_cache"))
def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    positions: Tensor,
    key_positions: Tensor,
    scale: float,
    window: int,
    softcap: float,
    sinks: Tensor | None,
) -> Tensor:
    """Write `key` and `value` into the caches at `positions`, then attend causally over the cached keys.

    query: (batch, heads, sequence, key size). key, value: (batch, key/value heads, sequence, size).
    key_cache, value_cache: (batch, key/value heads, cache, size), mutated; where they have another dtype than the
    query, keys and values are cast when they are written, and cast back when they are read, new ones too. positions:
    int64 (batch, sequence), the position of each new token in its row. key_positions: int64 (keys,), `arange(keys)`;
    its length says how much of the cache is looked at. A query at position p sees keys at positions
    max(0, p - window + 1) to p (window 0: from 0). Whatever the cache holds beyond p is not seen, so rows of different
    lengths and rejected tokens need no mask.
    Scores are scaled, then capped as `softcap * tanh(score / softcap)` unless softcap is 0; `sinks` (heads,) adds one
    logit per head to the softmax's denominator. Returns (batch, sequence, heads, value size).
    """
    return attend_in_torch(
        query, key, value, key_cache, value_cache, positions, key_positions, scale, window, softcap, sinks
    )


@attention.register_fake
def _attention_fake(
    query: Tensor,
    key: Tensor,  # noqa: ARG001
    value: Tensor,
    key_cache: Tensor,  # noqa: ARG001
    value_cache: Tensor,  # noqa: ARG001
    positions: Tensor,  # noqa: ARG001
    key_positions: Tensor,  # noqa: ARG001
    scale: float,  # noqa: ARG001
    window: int,  # noqa: ARG001
    softcap: float,  # noqa: ARG001
    sinks: Tensor | None,  # noqa: ARG001
) -> Tensor:
    batch, heads, sequence, _ = query.shape
    return query.new_empty(batch, sequence, heads, value.shape[-1])


# The same parameters as `aten::_grouped_mm`, so that a target can hand the call to that kernel one for one. That
# operator itself cannot be traced in float32: its shape function refuses what its CPU kernel can do.
_SCHEMA = "(Tensor rows, Tensor weights, Tensor? offsets, Tensor? bias, ScalarType? out_dtype) -> Tensor"


@torch.library.custom_op("maxbuild::expert_matmul", mutates_args=(), schema=_SCHEMA)
def expert_matmul(
    rows: Tensor, weights: Tensor, offsets: Tensor | None, bias: Tensor | None, out_dtype: torch.dtype | None
) -> Tensor:
    """Multiply each row with the matrix of its expert.

    rows: (rows, inputs), sorted by expert. weights: (experts, inputs, outputs). offsets: int32 (experts,), the number
    of rows that belong to this expert or one before it. bias and out_dtype are always None. Returns (rows, outputs).
    """
    assert offsets is not None
    assert bias is None
    assert out_dtype is None
    result = rows.new_empty(rows.shape[0], weights.shape[-1])
    start = 0
    for expert, end in enumerate(offsets.tolist()):
        torch.mm(rows[start:end], weights[expert], out=result[start:end])
        start = end
    return result


@expert_matmul.register_fake
def _expert_matmul_fake(
    rows: Tensor,
    weights: Tensor,
    offsets: Tensor | None,  # noqa: ARG001 - the operator's own signature
    bias: Tensor | None,  # noqa: ARG001
    out_dtype: torch.dtype | None,  # noqa: ARG001
) -> Tensor:
    return rows.new_empty(rows.shape[0], weights.shape[-1])
