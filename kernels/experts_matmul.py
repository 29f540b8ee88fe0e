"""The kernel that multiplies rows, sorted by expert, with the matrices of their experts.

Invariant: a program finds its expert from the offsets alone, so the grid follows from sizes and never from data.
"""

from __future__ import annotations

import triton
import triton.language as tl


# fmt: off
@triton.jit
def expert_matmul_kernel(
    output, rows, weights, offsets,
    row_stride, expert_stride, input_stride, output_stride,
    EXPERTS: tl.constexpr, EXPERT_BLOCK: tl.constexpr, INPUTS: tl.constexpr, OUTPUTS: tl.constexpr,
    ROW_BLOCK: tl.constexpr, OUTPUT_BLOCK: tl.constexpr, INPUT_BLOCK: tl.constexpr,
):
    # fmt: on
    """Compute one block of the output. Grid: (blocks of rows, if each expert began a block; blocks of outputs).

    Programs that share an expert's weights are neighbours in the grid, so one finds in the GPU's cache what the other
    has loaded. The grid has a block to spare for each expert; programs beyond the last block have nothing to do.
    """
    experts = tl.arange(0, EXPERT_BLOCK)
    ends = tl.load(offsets + experts, mask=experts < EXPERTS, other=0)
    starts = tl.load(offsets + experts - 1, mask=(experts > 0) & (experts < EXPERTS), other=0)
    blocks = tl.cumsum(tl.where(experts < EXPERTS, tl.cdiv(ends - starts, ROW_BLOCK), 0), 0)
    block = tl.program_id(0)
    # How many experts' blocks all come before this one: the number of its expert.
    expert = tl.sum((blocks <= block).to(tl.int32), 0)
    if expert < EXPERTS:
        is_mine = experts == expert
        end = tl.sum(tl.where(is_mine, ends, 0), 0)
        blocks_before = tl.sum(tl.where(experts == expert - 1, blocks, 0), 0)
        first = tl.sum(tl.where(is_mine, starts, 0), 0) + (block - blocks_before) * ROW_BLOCK
        numbers = first + tl.arange(0, ROW_BLOCK)
        live = (numbers < end)[:, None]
        wide = numbers.to(tl.int64)[:, None]
        outputs = (tl.program_id(1) * OUTPUT_BLOCK + tl.arange(0, OUTPUT_BLOCK))[None, :]
        inputs = tl.arange(0, INPUT_BLOCK)
        row_pointers = rows + wide * row_stride + inputs[None, :]
        matrix = weights + expert.to(tl.int64) * expert_stride
        weight_pointers = matrix + inputs[:, None] * input_stride + outputs * output_stride

        accumulator = tl.zeros([ROW_BLOCK, OUTPUT_BLOCK], tl.float32)
        for start in range(0, INPUTS, INPUT_BLOCK):
            row_block = tl.load(row_pointers + start, mask=live & (start + inputs < INPUTS)[None, :], other=0.0)
            kept = (start + inputs < INPUTS)[:, None] & (outputs < OUTPUTS)
            weight_block = tl.load(weight_pointers + start * input_stride, mask=kept, other=0.0)
            accumulator = tl.dot(row_block, weight_block, accumulator, input_precision="ieee")
        pointers = output + wide * OUTPUTS + outputs
        tl.store(pointers, accumulator.to(output.dtype.element_ty), mask=live & (outputs < OUTPUTS))
