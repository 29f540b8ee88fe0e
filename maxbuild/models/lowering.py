"""What the opaque operators of a traced graph become on CPUs: plain torch operations. On GPUs it is `maxbuild.kernels`.

Invariant: a lowering computes what `maxbuild::attention` documents, to rounding; nothing else of the graph changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


def attend_in_torch(
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
    """Compute `maxbuild::attention` with torch's own operators; shapes and meaning as documented there."""
    batch, heads, sequence, key_size = query.shape
    key_heads, value_size, keys = key.shape[1], value.shape[-1], key_positions.shape[0]
    slots = positions[:, None, :, None]
    key_cache.scatter_(2, slots.expand(batch, key_heads, sequence, key_size), key.to(key_cache.dtype))
    value_cache.scatter_(2, slots.expand(batch, key_heads, sequence, value_size), value.to(value_cache.dtype))
    seen = key_positions <= positions[:, :, None]
    if window:
        seen = seen & (key_positions > positions[:, :, None] - window)
    # Query heads that share a key/value head are laid along the sequence, so keys and values are never repeated.
    group = heads // key_heads
    grouped = query.reshape(batch, key_heads, group * sequence, key_size)
    mask = seen[:, None].expand(batch, group, sequence, keys).reshape(batch, 1, group * sequence, keys)
    cached_keys = key_cache.narrow(2, 0, keys).to(query.dtype)
    cached_values = value_cache.narrow(2, 0, keys).to(query.dtype)
    if softcap or sinks is not None or key_size != value_size:
        grouped_sinks = None if sinks is None else sinks.view(1, key_heads, group, 1).expand(batch, -1, -1, sequence)
        attended = _attend_step_by_step(grouped, cached_keys, cached_values, mask, scale, softcap, grouped_sinks)
    else:
        attended = torch.nn.functional.scaled_dot_product_attention(
            grouped, cached_keys, cached_values, attn_mask=mask, scale=scale
        )
    by_group = torch.unflatten(attended, 2, (group, sequence))
    return by_group.permute(0, 3, 1, 2, 4).reshape(batch, sequence, heads, value_size)


def _attend_step_by_step(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor, scale: float, softcap: float, sinks: Tensor | None
) -> Tensor:
    """Attend with capping and sinks, which torch's fused attention lacks; the softmax is in float32."""
    scores = (query @ keys.transpose(-1, -2)).float() * scale
    if softcap:
        scores = torch.tanh(scores / softcap) * softcap
    scores = scores.masked_fill(~mask, float("-inf"))
    if sinks is None:
        weights = torch.softmax(scores, dim=-1)
    else:
        column = sinks.float().reshape(scores.shape[0], scores.shape[1], scores.shape[2], 1)
        weights = torch.softmax(torch.cat([scores, column], dim=-1), dim=-1)[..., :-1]
    return weights.to(values.dtype) @ values


LOWERINGS: Mapping[str, Callable[..., Any]] = {"maxbuild.attention.default": attend_in_torch}
"""The names of operators, as graphs spell them, and the functions that take their place."""
