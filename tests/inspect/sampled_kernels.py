# ruff: noqa: ANN001, ANN201
"""Triton kernels for samples: plain ones, one for matrix units, one that moves more than fits where it goes.

Without types: Triton would read them as its own.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def add(x, y, n, block: tl.constexpr):
    i = tl.program_id(0) * block + tl.arange(0, block)
    tl.store(y + i, tl.load(x + i, mask=i < n) + 1.0, mask=i < n)


@triton.jit
def matmul(a, b, c, depth, size: tl.constexpr, step: tl.constexpr):
    row, column, k = tl.arange(0, size), tl.arange(0, size), tl.arange(0, step)
    sum_ = tl.zeros((size, size), tl.float32)
    for i in range(0, depth, step):
        left = tl.load(a + row[:, None] * depth + (i + k)[None, :])
        right = tl.load(b + (i + k)[:, None] * size + column[None, :])
        sum_ = tl.dot(left, right, sum_)
    tl.store(c + row[:, None] * size + column[None, :], sum_.to(tl.float16))


@triton.jit
def transpose(x, y, size: tl.constexpr):
    row, column = tl.arange(0, size), tl.arange(0, size)
    tile = tl.load(x + row[:, None] * size + column[None, :])
    tl.store(y + row[:, None] * size + column[None, :], tl.trans(tile))


@triton.jit
def softmax(x, y, n, block: tl.constexpr):
    i, row = tl.arange(0, block), tl.program_id(0)
    value = tl.load(x + row * n + i, mask=i < n, other=-float("inf"))
    value = tl.exp(value - tl.max(value))
    value = tl.fma(value, value, tl.sin(value))
    tl.store(y + row * n + i, value / tl.sum(value), mask=i < n)
    tl.atomic_add(y, tl.sum(value))
