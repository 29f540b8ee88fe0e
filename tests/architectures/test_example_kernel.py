"""The example's Triton kernel against its reference, in Triton's interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from architectures.sources import EXAMPLE

SCRIPT = """
import json, sys
sys.path.insert(0, sys.argv[1])
import torch
from maxbuild.targets.devices import device_of
from maxbuild.targets.spelling import parse_target
from tern.operators import add_rms_norm_on_gpu, add_rms_norm_plainly

def error(shape, dtype, target, strided):
    random = torch.Generator().manual_seed(0)
    update, residual = (torch.randn(*shape, generator=random).to(dtype) for _ in range(2))
    if strided:
        update = torch.randn(*shape[:-1], 2 * shape[-1], generator=random).to(dtype)[..., : shape[-1]]
    weight = (1 + torch.randn(shape[-1], generator=random)).to(dtype)
    device = device_of(parse_target(target))
    normalized, total = add_rms_norm_on_gpu(update, residual, weight, 1e-6, device=device)
    assert normalized.dtype == total.dtype == dtype and normalized.shape == total.shape == update.shape
    plain, plain_total = add_rms_norm_plainly(update, residual, weight, 1e-6)
    pairs = [(sum_, update.double() + residual.double()) for sum_ in (total, plain_total)]
    norms = ((normalized, total), (plain, plain_total))
    pairs += [(norm, exactly(sum_.double(), weight.double())) for norm, sum_ in norms]
    return max(((got.double() - exact).abs() / (1 + exact.abs())).max().item() for got, exact in pairs)

def exactly(total, weight):
    # What was rounded is what is normalized, so the norm starts there, and goes on in float64.
    return total * torch.rsqrt(total.square().mean(-1, keepdim=True) + 1e-6) * weight

cases = json.loads(sys.argv[2])
print(json.dumps([error(shape, getattr(torch, dtype), *rest) for shape, dtype, *rest in cases]))
"""

CASES = [
    ([2, 3, 64], "float32", "cuda:sm_90", False),
    ([2, 3, 64], "bfloat16", "cuda:sm_90", False),
    ([2, 3, 64], "float16", "hip:gfx942", False),
    ([1, 1, 1], "float32", "cuda:sm_90", False),
    ([1, 5, 100], "bfloat16", "hip:gfx942", True),
    ([3, 2, 1025], "float32", "cuda:sm_90", True),
]
# Numbers to 24, 8 and 11 bits, the last of them as it comes: the interpreter cuts what hardware rounds.
ROUNDING = {"float32": 1e-6, "bfloat16": 2**-7, "float16": 2**-10}


@pytest.fixture(scope="module")
def errors() -> list[float]:
    """Return for each case the largest relative error of the kernel and of the reference."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, EXAMPLE, json.dumps(CASES)],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[float] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("number", range(len(CASES)))
def test_the_kernel_computes_what_the_reference_says(errors: list[float], number: int) -> None:
    """Both within rounding of float64, for every dtype, odd widths, one row of one number, and rows that lie apart."""
    assert errors[number] <= ROUNDING[CASES[number][1]]
