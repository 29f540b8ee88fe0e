"""The matmul of mixtures of experts on GPUs: what `maxbuild::expert_matmul` is lowered to there.

Invariant: nothing here asks for the value of a size. As in `attention`, there is a form for many rows per expert and
one for few, both are launched, and arithmetic on sizes makes the grid of one of them empty.
"""

from __future__ import annotations

import torch
from torch import Tensor

from maxbuild.kernels.experts_matmul import expert_matmul_kernel
from maxbuild.kernels.experts_tiles import LEAST_ROWS, few_rows_tile, many_rows_tile
from maxbuild.kernels.launch import launch
from maxbuild.targets.devices import Device


def expert_matmul(rows: Tensor, weights: Tensor, offsets: Tensor, *, device: Device) -> Tensor:
    """Compute `maxbuild::expert_matmul`, for `device`, with a Triton kernel; shapes and meaning as documented there.

    Rows and weights have one dtype: float32, bfloat16 or float16. Weights have any strides; offsets are dense.
    """
    rows = rows if rows.stride(-1) == 1 else rows.contiguous()
    count, (experts, inputs, outputs) = rows.shape[0], weights.shape
    output = rows.new_empty(count, outputs)
    # With up to LEAST_ROWS rows for each expert, larger tiles would be filled with nothing.
    few = torch.sym_min(1, torch.sym_max(0, LEAST_ROWS * experts + 1 - count))
    for tile, wanted in ((few_rows_tile(device, rows.dtype), few), (many_rows_tile(device, rows.dtype), 1 - few)):
        blocks = (count + tile.rows - 1) // tile.rows + experts
        launch(
            expert_matmul_kernel,
            (blocks * wanted, (outputs + tile.outputs - 1) // tile.outputs, 1),
            *(output, rows, weights, offsets, rows.stride(0), *weights.stride()),
            EXPERTS=experts,
            EXPERT_BLOCK=1 << (experts - 1).bit_length(),
            INPUTS=inputs,
            OUTPUTS=outputs,
            **tile.options(),
        )
    return output
