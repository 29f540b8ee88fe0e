"""Attention of a few new tokens: the cache is split among programs, and a second kernel merges what they found.

Invariant: no program reads a slot of the cache that this launch writes. New keys and values are read from `key` and
`value`; their slots count as unreadable in all programs, so it does not matter when the one that writes them does.
This is flash-decoding (Dao, Haziza, Massa and Sizov, "Flash-Decoding for long-context inference", 2023), with the
write into the cache as in `flash_attn_with_kvcache` of the flash-attention library.
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
def attention_decode(
    output, partial, logarithms, query, key, value, key_cache, value_cache, positions, sinks, sequence, cache, splits,
    query_batch, query_head, query_token, key_batch, key_head, key_token, value_batch, value_head, value_token,
    GROUP: tl.constexpr, KEY_SIZE: tl.constexpr, VALUE_SIZE: tl.constexpr,
    KEY_BLOCK: tl.constexpr, VALUE_BLOCK: tl.constexpr,
    SCALE: tl.constexpr, WINDOW: tl.constexpr, SOFTCAP: tl.constexpr, HAS_SINKS: tl.constexpr,
    QUERIES: tl.constexpr, KEYS: tl.constexpr, NEW: tl.constexpr,
):
    # fmt: on
    """Attend for `QUERIES` queries over one split of the cache. Grid: (blocks of queries x splits, heads, batch).

    The queries of a key/value head are its heads times the new tokens: those that share keys share a block. There are
    at most `NEW` new tokens, and `NEW` is at most `KEYS`. The last split sees the new tokens and the sinks, and that of
    the first block writes.
    """
    split = tl.program_id(0) % splits
    block = tl.program_id(0) // splits
    is_last = split == splits - 1
    head = tl.program_id(1).to(tl.int64)
    row = tl.program_id(2).to(tl.int64)
    pairs = block * QUERIES + tl.arange(0, QUERIES)
    tokens = pairs // GROUP
    heads = head * GROUP + pairs % GROUP
    live = tokens < sequence
    places = tl.load(positions + row * sequence + tokens, mask=live, other=-1).to(tl.int32)
    queries = query + row * query_batch + tokens[:, None] * query_token
    queries = load_tokens(queries, heads, query_head, live, True, KEY_SIZE, KEY_BLOCK)
    slab = (row * tl.num_programs(1) + head) * cache
    keys = key_cache + slab * KEY_SIZE
    values = value_cache + slab * VALUE_SIZE
    new_keys = key + row * key_batch + head * key_head
    new_values = value + row * value_batch + head * value_head
    new = tl.arange(0, NEW)
    new_slots = tl.load(positions + row * sequence + new, mask=new < sequence, other=-1).to(tl.int32)
    numbers = tl.arange(0, KEYS)
    is_token = numbers < sequence
    token_slots = tl.load(positions + row * sequence + numbers, mask=is_token, other=-1).to(tl.int32)

    # The slots from `low` to before `end` are seen by some query of the block; this split has those from `start`.
    last = tl.max(places)
    end = last + 1
    if WINDOW:
        low = tl.maximum(tl.min(tl.where(live, places, last)) - WINDOW + 1, 0)
    else:
        low = 0
    share = tl.cdiv(tl.cdiv(end, KEYS) - low // KEYS, splits) * KEYS
    start = low // KEYS * KEYS + split * share
    blocks = tl.cdiv(tl.maximum(tl.minimum(share, end - start), 0), KEYS)

    accumulator = tl.zeros([QUERIES, VALUE_BLOCK], tl.float32)
    peak, total = start_softmax(sinks, heads, live, is_last, QUERIES, HAS_SINKS)
    # The new tokens are one more block, of other pointers. A second copy of the loop's body for them took half as many
    # registers again.
    for index in range(blocks + is_last.to(tl.int32)):
        is_new = index == blocks
        slots = start + index * KEYS + numbers
        is_rewritten = tl.max((slots[:, None] == new_slots[None, :]).to(tl.int32), 1) > 0
        kept = tl.where(is_new, is_token, (slots >= low) & (slots < end) & (is_rewritten == 0))
        source = tl.where(is_new, numbers, slots)
        # fmt: off
        block_keys = load_tokens(
            tl.where(is_new, new_keys, keys), source, tl.where(is_new, key_token, KEY_SIZE),
            kept, True, KEY_SIZE, KEY_BLOCK)
        scores = score_keys(queries, block_keys.to(queries.dtype), SCALE, SOFTCAP)
        scores = hide_unseen(scores, tl.where(is_new, token_slots, slots), kept, places, WINDOW)
        block_values = load_tokens(
            tl.where(is_new, new_values, values), source, tl.where(is_new, value_token, VALUE_SIZE),
            kept, True, VALUE_SIZE, VALUE_BLOCK)
        # fmt: on
        accumulator, peak, total = fold_block(accumulator, peak, total, scores, block_values.to(queries.dtype))

    if is_last & (block == 0):
        live_new = new < sequence
        copied = load_tokens(new_keys, new, key_token, live_new, True, KEY_SIZE, KEY_BLOCK)
        store_tokens(keys, new_slots, KEY_SIZE, copied, live_new, KEY_SIZE, KEY_BLOCK)
        copied = load_tokens(new_values, new, value_token, live_new, True, VALUE_SIZE, VALUE_BLOCK)
        store_tokens(values, new_slots, VALUE_SIZE, copied, live_new, VALUE_SIZE, VALUE_BLOCK)

    attended = finish_softmax(accumulator, total)
    rows = (row * sequence + tokens) * (tl.num_programs(1) * GROUP) + heads
    if splits == 1:
        store_tokens(output, rows, VALUE_SIZE, attended, live, VALUE_SIZE, VALUE_BLOCK)
    else:
        parts = rows * splits + split
        store_tokens(partial, parts, VALUE_SIZE, attended, live, VALUE_SIZE, VALUE_BLOCK)
        tl.store(logarithms + parts, peak + tl.log2(tl.where(total == 0.0, 1.0, total)), mask=live)


# fmt: off
@triton.jit
def attention_merge(
    output, partial, logarithms, splits,
    VALUE_SIZE: tl.constexpr, VALUE_BLOCK: tl.constexpr, SPLITS: tl.constexpr, AT_ONCE: tl.constexpr,
):
    # fmt: on
    """Merge what the splits, at most `SPLITS`, found for one token and head. Grid: (batch x sequence x heads,)."""
    row = tl.program_id(0).to(tl.int64)
    sizes = tl.arange(0, VALUE_BLOCK)
    every = tl.arange(0, SPLITS)
    peak = tl.max(tl.load(logarithms + row * splits + every, mask=every < splits, other=float("-inf")))
    attended = tl.zeros([VALUE_BLOCK], tl.float32)
    total = tl.zeros([VALUE_BLOCK], tl.float32)
    for first in range(0, splits, AT_ONCE):
        some = first + tl.arange(0, AT_ONCE)
        parts = row * splits + some
        weights = tl.exp2(tl.load(logarithms + parts, mask=some < splits, other=float("-inf")) - peak)
        found = load_tokens(partial, parts, VALUE_SIZE, some < splits, True, VALUE_SIZE, VALUE_BLOCK)
        attended += tl.sum(weights[:, None] * found, 0)
        total += tl.sum(weights, 0)
    merged = (attended / total).to(output.dtype.element_ty)
    tl.store(output + row * VALUE_SIZE + sizes, merged, mask=sizes < VALUE_SIZE)
