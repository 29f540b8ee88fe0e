"""Tern's Triton kernels."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def add_rms_norm_kernel(
    normalized,
    total,
    update,
    residual,
    weight,
    HIDDEN: tl.constexpr,
    BLOCK: tl.constexpr,
    EPS: tl.constexpr,
):
    """Add one row to its residual and normalize the sum. Grid: (rows,). BLOCK: the power of two from HIDDEN on."""
    columns = tl.arange(0, BLOCK)
    kept = columns < HIDDEN
    places = tl.program_id(0).to(tl.int64) * HIDDEN + columns
    row = tl.load(update + places, mask=kept, other=0.0).to(tl.float32)
    row += tl.load(residual + places, mask=kept, other=0.0).to(tl.float32)
    # Rounded before it is squared, as the sum is what the next layer sees.
    rounded = row.to(total.dtype.element_ty)
    tl.store(total + places, rounded, mask=kept)
    row = rounded.to(tl.float32)
    scale = tl.rsqrt(tl.sum(row * row, 0) / HIDDEN + EPS)
    factors = tl.load(weight + columns, mask=kept, other=0.0).to(tl.float32)
    tl.store(normalized + places, (row * scale * factors).to(normalized.dtype.element_ty), mask=kept)
