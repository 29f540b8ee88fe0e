"""The softmax of attention kernels, folded up one block of keys at a time.

Invariant: after any number of folds `accumulator / total` is the attention over the keys folded in so far, and
`peak + log2(total)` the logarithm of its softmax's denominator; all in float32, and to base 2, as GPUs' exponentials
are. The method is Milakov and Gimelshein's, arXiv 1805.02867, in blocks as in FlashAttention, arXiv 2205.14135.
"""

from __future__ import annotations

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def load_tokens(tokens, numbers, stride, kept, MASKED: tl.constexpr, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    """Load the tokens with these numbers: (tokens, BLOCK), zeros beyond `SIZE` and, if MASKED, where not `kept`."""
    sizes = tl.arange(0, BLOCK)[None, :]
    pointers = tokens + numbers[:, None] * stride + sizes
    # A mask that is always true would still cost registers: head sizes that fill their block have none.
    if MASKED:
        if SIZE == BLOCK:
            block = tl.load(pointers, mask=kept[:, None], other=0.0)
        else:
            block = tl.load(pointers, mask=kept[:, None] & (sizes < SIZE), other=0.0)
    elif SIZE == BLOCK:
        block = tl.load(pointers)
    else:
        block = tl.load(pointers, mask=sizes < SIZE, other=0.0)
    return block


@triton.jit
def store_tokens(tokens, numbers, stride, block, kept, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    """Store `block` (tokens, BLOCK) as the tokens with these numbers, where `kept`; the counterpart of load_tokens."""
    sizes = tl.arange(0, BLOCK)[None, :]
    mask = kept[:, None] & (sizes < SIZE)
    tl.store(tokens + numbers[:, None] * stride + sizes, block.to(tokens.dtype.element_ty), mask=mask)


@triton.jit
def score_keys(queries, keys, SCALE: tl.constexpr, SOFTCAP: tl.constexpr):
    """Return the scores (queries, keys) of `queries` (queries, size) and `keys` (keys, size).

    float32 is multiplied as such ("ieee"; for 16-bit numbers it makes no difference). TF32 keeps 11 bits of a factor,
    which is less than the 1e-4 that packages of float32 are held to. Its emulation of float32 ("tf32x3") is as exact,
    but it spilled registers with every tile at head size 256, and AMD's GPUs have none.
    """
    scores = tl.dot(queries, tl.trans(keys), input_precision="ieee")
    if SOFTCAP == 0.0:
        scores = scores * (SCALE * LOG2_E)
    else:
        # tanh(x) = 1 - 2 / (1 + e^2x), right at both ends too, where the exponential is zero or infinite. The tanh
        # functions of the targets' own libraries differ, in name and in accuracy.
        exponential = tl.exp2(scores * (2.0 * SCALE / SOFTCAP * LOG2_E))
        scores = SOFTCAP * LOG2_E - 2.0 * SOFTCAP * LOG2_E / (1.0 + exponential)
    return scores


@triton.jit
def hide_unseen(scores, slots, kept, places, WINDOW: tl.constexpr):
    """Leave the scores of keys in `kept` slots at most at the query's place and inside of its window; else -inf."""
    seen = kept[None, :] & (slots[None, :] <= places[:, None])
    if WINDOW:
        seen = seen & (slots[None, :] > places[:, None] - WINDOW)
    return tl.where(seen, scores, float("-inf"))


@triton.jit
def start_softmax(sinks, heads, kept, with_sinks, QUERIES: tl.constexpr, HAS_SINKS: tl.constexpr):
    """Return peak and total before any key: those of nothing or, `with_sinks`, of the sinks of the queries' heads."""
    peak = tl.full([QUERIES], float("-inf"), tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    if HAS_SINKS:
        logits = tl.load(sinks + heads, mask=kept, other=0.0).to(tl.float32) * LOG2_E
        peak = tl.where(with_sinks, logits, peak)
        total = tl.where(with_sinks, 1.0, total)
    return peak, total


@triton.jit
def fold_block(accumulator, peak, total, scores, values):
    """Fold in `values` (keys, size), weighted by the softmax of `scores` (queries, keys)."""
    new_peak = tl.maximum(peak, tl.max(scores, 1))
    # A query that has seen no key yet has no peak to subtract: -inf - -inf is no number.
    base = tl.where(new_peak == float("-inf"), 0.0, new_peak)
    weights = tl.exp2(scores - base[:, None])
    correction = tl.exp2(peak - base)
    total = total * correction + tl.sum(weights, 1)
    accumulator = accumulator * correction[:, None]
    accumulator = tl.dot(weights.to(values.dtype), values, accumulator, input_precision="ieee")
    return accumulator, new_peak, total


@triton.jit
def finish_softmax(accumulator, total):
    """Return the attended values (queries, size); zeros for queries that saw no key."""
    return accumulator / tl.where(total == 0.0, 1.0, total)[:, None]
