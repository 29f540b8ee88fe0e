"""What the matmul of mixtures of experts must compute, said plainly: one expert at a time, in float64."""

from __future__ import annotations

import torch
from torch import Tensor


def multiply_plainly(rows: Tensor, weights: Tensor, offsets: Tensor) -> Tensor:
    """Compute `maxbuild::expert_matmul` (shapes and meaning as documented there) and return it in float64."""
    ends = offsets.tolist()
    pieces = zip([0, *ends], ends, weights.double(), strict=False)
    return torch.cat([rows[start:end].double() @ matrix for start, end, matrix in pieces])
