"""Attention of many new tokens: one kernel writes their keys and values into the cache, the next attends over it.

Invariant: the second kernel starts after the first has ended, so it finds in the cache all that its queries may see.
Writing within the attention would save one short launch of two long ones, and would need every block of keys merged
from two sources.
"""

from __future__ import annotations

import triton
import triton.language as tl

from maxbuild.kernels.online_softmax import (
    finish_softmax,
    fold_block,
    hide_unseen,
    load_tokens,
    score_keys,
    start_softmax,
    store_tokens,
)


# fmt: off
@triton.jit
def attention_write(
    key, value, key_cache, value_cache, positions, sequence, cache,
    key_batch, key_head, key_token, value_batch, value_head, value_token,
    KEY_SIZE: tl.constexpr, VALUE_SIZE: tl.constexpr, KEY_BLOCK: tl.constexpr, VALUE_BLOCK: tl.constexpr,
    TOKENS: tl.constexpr,
):
    # fmt: on
    """Copy `TOKENS` tokens of one row and key/value head to their slots. Grid: (key/value heads, blocks, batch)."""
    head = tl.program_id(0).to(tl.int64)
    row = tl.program_id(2).to(tl.int64)
    slab = (row * tl.num_programs(0) + head) * cache
    tokens = tl.program_id(1).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    live = tokens < sequence
    slots = tl.load(positions + row * sequence + tokens, mask=live, other=0)
    keys = load_tokens(key + row * key_batch + head * key_head, tokens, key_token, live, True, KEY_SIZE, KEY_BLOCK)
    store_tokens(key_cache + slab * KEY_SIZE, slots, KEY_SIZE, keys, live, KEY_SIZE, KEY_BLOCK)
    values = value + row * value_batch + head * value_head
    values = load_tokens(values, tokens, value_token, live, True, VALUE_SIZE, VALUE_BLOCK)
    store_tokens(value_cache + slab * VALUE_SIZE, slots, VALUE_SIZE, values, live, VALUE_SIZE, VALUE_BLOCK)


# fmt: off
@triton.jit
def attention_prefill(
    output, query, key_cache, value_cache, positions, sinks, sequence, cache,
    query_batch, query_head, query_token,
    GROUP: tl.constexpr, KEY_SIZE: tl.constexpr, VALUE_SIZE: tl.constexpr,
    KEY_BLOCK: tl.constexpr, VALUE_BLOCK: tl.constexpr,
    SCALE: tl.constexpr, WINDOW: tl.constexpr, SOFTCAP: tl.constexpr, HAS_SINKS: tl.constexpr,
    QUERIES: tl.constexpr, KEYS: tl.constexpr,
):
    # fmt: on
    """Attend for `QUERIES` tokens of one row and head. Grid: (heads, blocks of tokens, batch).

    Heads that share keys are neighbours in the grid, so one reads from the cache of the GPU what the other has loaded.
    """
    head = tl.program_id(0).to(tl.int64)
    row = tl.program_id(2).to(tl.int64)
    # The last tokens see the most keys. They go first, so that no long program starts when all others are done.
    # Where the block starts is 64 bits wide: a long prompt times the stride of a token is beyond 32.
    start = (tl.num_programs(1) - 1 - tl.program_id(1)).to(tl.int64) * QUERIES
    numbers = tl.arange(0, QUERIES)
    tokens = start.to(tl.int32) + numbers
    live = tokens < sequence
    places = tl.load(positions + row * sequence + tokens, mask=live, other=-1).to(tl.int32)
    queries = query + row * query_batch + head * query_head + start * query_token
    queries = load_tokens(queries, numbers, query_token, live, True, KEY_SIZE, KEY_BLOCK)
    slab = (row * (tl.num_programs(0) // GROUP) + head // GROUP) * cache
    keys = key_cache + slab * KEY_SIZE
    values = value_cache + slab * VALUE_SIZE

    last = tl.max(places)
    first = tl.min(tl.where(live, places, last))
    accumulator = tl.zeros([QUERIES, VALUE_BLOCK], tl.float32)
    peak, total = start_softmax(sinks, head + tokens * 0, live, True, QUERIES, HAS_SINKS)
    # fmt: off
    if WINDOW:
        # Few blocks are seen whole by all queries of a window: one loop that masks them all takes fewer registers.
        low = tl.maximum(first - WINDOW + 1, 0)
        accumulator, peak, total = fold_cache(
            accumulator, peak, total, queries, places, keys, values, low // KEYS * KEYS, low, last + 1,
            True, KEY_SIZE, VALUE_SIZE, KEY_BLOCK, VALUE_BLOCK, SCALE, WINDOW, SOFTCAP, KEYS)
    else:
        seen_by_all = (first + 1) // KEYS * KEYS
        accumulator, peak, total = fold_cache(
            accumulator, peak, total, queries, places, keys, values, 0, 0, seen_by_all,
            False, KEY_SIZE, VALUE_SIZE, KEY_BLOCK, VALUE_BLOCK, SCALE, WINDOW, SOFTCAP, KEYS)
        accumulator, peak, total = fold_cache(
            accumulator, peak, total, queries, places, keys, values, seen_by_all, 0, last + 1,
            True, KEY_SIZE, VALUE_SIZE, KEY_BLOCK, VALUE_BLOCK, SCALE, WINDOW, SOFTCAP, KEYS)
    # fmt: on

    outputs = output + ((row * sequence + start) * tl.num_programs(0) + head) * VALUE_SIZE
    stride = tl.num_programs(0) * VALUE_SIZE
    store_tokens(outputs, numbers, stride, finish_softmax(accumulator, total), live, VALUE_SIZE, VALUE_BLOCK)


# fmt: off
@triton.jit
def fold_cache(
    accumulator, peak, total, queries, places, keys, values, start, low, end,
    MASKED: tl.constexpr, KEY_SIZE: tl.constexpr, VALUE_SIZE: tl.constexpr,
    KEY_BLOCK: tl.constexpr, VALUE_BLOCK: tl.constexpr,
    SCALE: tl.constexpr, WINDOW: tl.constexpr, SOFTCAP: tl.constexpr, KEYS: tl.constexpr,
):
    # fmt: on
    """Fold in the slots from `low` to before `end`, in blocks from `start`; unless MASKED, all queries see them all."""
    for block in range(start, end, KEYS):
        slots = block + tl.arange(0, KEYS)
        # What lies outside is never read: it may be anything, and zero times infinity is no number.
        kept = (slots >= low) & (slots < end)
        block_keys = load_tokens(keys, slots, KEY_SIZE, kept, MASKED, KEY_SIZE, KEY_BLOCK)
        scores = score_keys(queries, block_keys.to(queries.dtype), SCALE, SOFTCAP)
        if MASKED:
            scores = hide_unseen(scores, slots, kept, places, WINDOW)
        block_values = load_tokens(values, slots, VALUE_SIZE, kept, MASKED, VALUE_SIZE, VALUE_BLOCK)
        accumulator, peak, total = fold_block(accumulator, peak, total, scores, block_values.to(queries.dtype))
    return accumulator, peak, total
