"""The kernel for mixtures of experts, run by Triton's interpreter, against the reference."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from interpreted import ExpertCase, Interpreter, make_expert_tensors

from maxbuild.kernels.experts_reference import multiply_plainly
from maxbuild.models.operators import expert_matmul

TOLERANCES = {"float32": 1e-5, "float16": 1e-3, "bfloat16": 1e-2}


def check(interpreter: Interpreter, case: ExpertCase) -> None:
    """Assert that the kernel multiplies as the reference does, to rounding, whichever of its forms is launched."""
    product, grids = interpreter.multiply(case)
    rows, weights, offsets = make_expert_tensors(case)
    expected = multiply_plainly(rows, weights, offsets)
    assert product.shape == expected.shape
    assert (product.double() - expected).abs().max() <= TOLERANCES[case.dtype] * expected.abs().max(), case
    assert sum(0 not in grid for grid in grids) == 1


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    case=st.builds(
        ExpertCase,
        counts=st.lists(st.integers(0, 40), min_size=1, max_size=6).filter(any).map(tuple),
        inputs=st.integers(1, 90),
        outputs=st.integers(1, 90),
        transposed=st.booleans(),
        dtype=st.sampled_from(sorted(TOLERANCES)),
        target=st.sampled_from(["cuda:sm_90", "cuda:sm_86", "hip:gfx942", "hip:gfx1100"]),
        seed=st.integers(0, 1000),
    )
)
def test_any_call_is_computed_as_the_reference_does(interpreter: Interpreter, case: ExpertCase) -> None:
    """Whatever the sizes, whoever gets how many rows, the kernel gives the reference's products."""
    check(interpreter, case)


@pytest.mark.parametrize(
    "counts",
    [(1,), (0, 1), (1, 0, 0), (16, 16), (17, 16), (64, 64), (65, 0, 63), (0, 0, 130)],
    ids=str,
)
def test_rows_end_anywhere_in_a_block(interpreter: Interpreter, counts: tuple[int, ...]) -> None:
    """Experts without rows, at the start, the end and in between, and blocks of rows that are full or just not."""
    check(interpreter, ExpertCase(counts=counts, inputs=24, outputs=40))


def test_the_operator_for_cpus_agrees_with_the_reference() -> None:
    """What runs on CPUs while tracing is what the kernel is held to."""
    rows, weights, offsets = make_expert_tensors(ExpertCase(counts=(3, 0, 5), inputs=8, outputs=6))
    product = expert_matmul(rows, weights, offsets, None, None)
    torch.testing.assert_close(product.double(), multiply_plainly(rows, weights, offsets), rtol=1e-5, atol=1e-5)
