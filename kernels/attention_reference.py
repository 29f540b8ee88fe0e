"""What attention kernels must compute, said plainly: one query at a time, in float64."""

from __future__ import annotations

import torch
from torch import Tensor


def attend_plainly(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    positions: Tensor,
    scale: float,
    window: int,
    softcap: float,
    sinks: Tensor | None,
) -> Tensor:
    """Compute `maxbuild::attention` (shapes and meaning as documented there) and return it in float64."""
    batch, heads, sequence, _ = query.shape
    key_heads = key.shape[1]
    for row in range(batch):
        key_cache[row, :, positions[row]] = key[row].to(key_cache.dtype)
        value_cache[row, :, positions[row]] = value[row].to(value_cache.dtype)
    output = torch.zeros(batch, sequence, heads, value.shape[-1], dtype=torch.float64)
    for row, token, head in torch.cartesian_prod(*map(torch.arange, (batch, sequence, heads))).tolist():
        place = int(positions[row, token])
        seen = slice(max(0, place - window + 1) if window else 0, place + 1)
        keys = key_cache[row, head * key_heads // heads, seen].double()
        values = value_cache[row, head * key_heads // heads, seen].double()
        scores = keys @ query[row, head, token].double() * scale
        if softcap:
            scores = torch.tanh(scores / softcap) * softcap
        if sinks is not None:
            scores = torch.cat([scores, sinks[head, None].double()])
        weights = torch.softmax(scores, dim=0)
        output[row, token, head] = weights[: len(values)] @ values
    return output
