"""What `verify` asks of a GPU's arithmetic."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from maxbuild.verify import in_full_precision

NAMES = ("allow_tf32", "allow_bf16_reduced_precision_reduction", "allow_fp16_reduced_precision_reduction")


@pytest.fixture
def tf32_wanted() -> Iterator[None]:
    """Let the caller have asked for TF32."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    yield
    torch.backends.cuda.matmul.allow_tf32 = before


def settings() -> list[bool]:
    return [getattr(torch.backends.cuda.matmul, name) for name in NAMES]


def seen_inside_then_fail(seen: list[bool]) -> None:
    with in_full_precision():
        seen += settings()
        raise ZeroDivisionError


@pytest.mark.usefixtures("tf32_wanted")
def test_full_precision_while_it_lasts_and_the_callers_own_afterwards() -> None:
    """TF32 and sums in half precision are off inside, and come back as they were, also after an error."""
    before, seen = settings(), list[bool]()
    with pytest.raises(ZeroDivisionError):
        seen_inside_then_fail(seen)
    assert seen == [False] * 3
    assert settings() == before
    assert any(before)
