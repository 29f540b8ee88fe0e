"""Attention over a K/V cache on GPUs: what `maxbuild::attention` is lowered to there.

Invariant: nothing here asks for the value of a size, so that calls are traced with sizes that stay symbols. There is
one form for many new tokens and one for few. Both are always launched, and arithmetic on sizes makes the grids of one
of them empty: launchers skip those, Triton's own as well as AOTInductor's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maxbuild.kernels.attention_decode import attention_decode, attention_merge
from maxbuild.kernels.attention_prefill import attention_prefill, attention_write
from maxbuild.kernels.attention_tiles import decode_tile, head_block, prefill_tile, programs_at_once
from maxbuild.kernels.launch import Size, launch
from maxbuild.targets.devices import Device

MOST_NEW = 16
"""With up to so many new tokens the decode form is used: as many keys as a matrix instruction takes at a time."""

MOST_SPLITS = 128
"""Into how many parts the cache of one row is split at most."""

_TOKENS_WRITTEN = 16
"""How many tokens one program of attention_write copies."""

_PARTS_AT_ONCE = 8
"""How many parts attention_merge holds in registers."""


@dataclass(frozen=True, slots=True)
class _Call:
    """One call's tensors, and what its kernels are specialised on."""

    query: Tensor
    key: Tensor
    value: Tensor
    key_cache: Tensor
    value_cache: Tensor
    positions: Tensor
    sinks: Tensor
    sizes: dict[str, int]
    meaning: dict[str, Any]

    @property
    def widest(self) -> torch.dtype:
        """Return the widest dtype of what programs hold: tiles are cut for it."""
        return max(self.query.dtype, self.key_cache.dtype, key=lambda dtype: dtype.itemsize)


def attend(
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
    *,
    device: Device,
    multiprocessors: Size | None = None,
) -> Tensor:
    """Compute `maxbuild::attention`, for `device`, with Triton kernels; shapes and meaning as documented there.

    multiprocessors: how many there are, where that is not for the table of devices to say.
    All tensors but the positions have one dtype, float32, bfloat16 or float16; the two caches may have another of them.
    Caches, positions and sinks are dense; query, key and value have any strides. The positions of a row are distinct.
    Raise ValueError for heads wider than 256 numbers.
    """
    # New keys and values are read by some programs from here and by others from the cache: they are rounded for both.
    key, value = key.to(key_cache.dtype), value.to(value_cache.dtype)
    query, key, value = (_with_dense_heads(tensor) for tensor in (query, key, value))
    batch, heads, sequence, key_size = query.shape
    value_size = value.shape[-1]
    sizes = {
        "KEY_SIZE": key_size,
        "VALUE_SIZE": value_size,
        "KEY_BLOCK": head_block(key_size),
        "VALUE_BLOCK": head_block(value_size),
    }
    meaning = {
        "GROUP": heads // key.shape[1],
        # Constants of the kernels: Inductor would pass Python's floats as fp64.
        "SCALE": float(scale),
        "WINDOW": window,
        "SOFTCAP": float(softcap),
        "HAS_SINKS": sinks is not None,
    }
    # Without sinks the kernels get a pointer that they never follow: None would change their signature.
    logits = positions if sinks is None else sinks
    call = _Call(query, key, value, key_cache, value_cache, positions, logits, sizes, meaning)
    output = query.new_empty(batch, sequence, heads, value_size)
    few = torch.sym_min(1, torch.sym_max(0, MOST_NEW + 1 - sequence))
    _attend_many(call, output, 1 - few, device)
    room = device.multiprocessors if multiprocessors is None else multiprocessors
    _attend_few(call, output, few, key_positions.shape[0], device, room)
    return output


def _attend_many(call: _Call, output: Tensor, wanted: Size, device: Device) -> None:
    """Launch the kernels for many new tokens, with empty grids where `wanted` is 0 and not 1."""
    batch, heads, sequence, key_size = call.query.shape
    cache = call.key_cache.shape[2]
    launch(
        attention_write,
        (call.key.shape[1], _ceil_div(sequence, _TOKENS_WRITTEN) * wanted, batch),
        *(call.key, call.value, call.key_cache, call.value_cache, call.positions, sequence, cache),
        *(*call.key.stride()[:3], *call.value.stride()[:3]),
        **call.sizes,
        TOKENS=_TOKENS_WRITTEN,
    )
    tile = prefill_tile(device, call.widest, key_size, call.value.shape[-1])
    launch(
        attention_prefill,
        (heads, _ceil_div(sequence, tile.queries) * wanted, batch),
        *(output, call.query, call.key_cache, call.value_cache, call.positions, call.sinks, sequence, cache),
        *call.query.stride()[:3],
        **call.sizes,
        **call.meaning,
        **tile.options(),
    )


def _attend_few(call: _Call, output: Tensor, wanted: Size, keys: Size, device: Device, multiprocessors: Size) -> None:
    """Launch the kernels for at most MOST_NEW new tokens, with empty grids where `wanted` is 0 and not 1."""
    batch, heads, sequence, key_size = call.query.shape
    key_heads, value_size = call.key.shape[1], call.value.shape[-1]
    tile = decode_tile(device, call.widest, key_size, value_size)
    blocks = _ceil_div(sequence * (heads // key_heads), tile.queries)
    # As many splits as fill the device once, of a block of keys at least.
    room = multiprocessors * programs_at_once(tile, device, call.widest, key_size, value_size)
    window = call.meaning["WINDOW"]
    seen = torch.sym_min(keys, window + MOST_NEW) if window else keys
    most = torch.sym_min(MOST_SPLITS, _ceil_div(seen, tile.keys))
    splits = torch.sym_max(1, torch.sym_min(most, room // (blocks * key_heads * batch)))
    is_split = wanted * torch.sym_min(1, splits - 1)
    rows = batch * sequence * heads
    # Never an empty tensor: code that asks whether a tensor is empty would fix the sizes of this call in the trace.
    parts = torch.sym_max(1, is_split * rows * splits)
    partial = call.query.new_empty(parts * value_size, dtype=torch.float32)
    logarithms = call.query.new_empty(parts, dtype=torch.float32)
    launch(
        attention_decode,
        (blocks * splits * wanted, key_heads, batch),
        *(output, partial, logarithms, call.query, call.key, call.value, call.key_cache, call.value_cache),
        *(call.positions, call.sinks, sequence, call.key_cache.shape[2], splits),
        *(*call.query.stride()[:3], *call.key.stride()[:3], *call.value.stride()[:3]),
        **call.sizes,
        **call.meaning,
        NEW=MOST_NEW,
        **tile.options(),
    )
    launch(
        attention_merge,
        (rows * is_split, 1, 1),
        *(output, partial, logarithms, splits),
        VALUE_SIZE=value_size,
        VALUE_BLOCK=call.sizes["VALUE_BLOCK"],
        SPLITS=MOST_SPLITS,
        AT_ONCE=_PARTS_AT_ONCE,
    )


def _with_dense_heads(tensor: Tensor) -> Tensor:
    """Return the tensor with the numbers of each head side by side, which is how the kernels load them."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _ceil_div(size: Size, by: int) -> Size:
    return (size + by - 1) // by
