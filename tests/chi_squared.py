"""Pearson's chi-squared test, for counts of tokens against their probabilities."""

from __future__ import annotations

import torch
from torch import Tensor

LEAST_EXPECTED = 5.0
"""Cells that are expected less often are taken together, as the test wants it (Cochran 1954)."""


def surprise(counts: Tensor, probabilities: Tensor) -> float:
    """Return how many standard deviations above its mean chi squared is, by Wilson and Hilferty's approximation.

    counts: how often each cell came; probabilities: of each, 1 in all. Above 4.75 is once in a million for counts that
    come from these probabilities.
    """
    expected = probabilities.double() * counts.sum()
    rare = expected < LEAST_EXPECTED
    cells = torch.cat([expected[~rare], expected[rare].sum()[None]])
    found = torch.cat([counts[~rare], counts[rare].sum()[None]]).double()
    used = cells > LEAST_EXPECTED
    # What is never expected and comes all the same is infinitely surprising.
    if bool((found[~used] > 10 * LEAST_EXPECTED).any()):
        return float("inf")
    statistic = float(((found[used] - cells[used]) ** 2 / cells[used]).sum())
    freedom = int(used.sum()) - 1
    return ((statistic / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / (2 / (9 * freedom)) ** 0.5


def noncentrality(truth: Tensor, probabilities: Tensor, count: int) -> float:
    """Return how far chi squared is moved, over `count` samples, where they come from `truth` instead."""
    cells = probabilities > 0
    return float((count * (truth[cells] - probabilities[cells]) ** 2 / probabilities[cells]).double().sum())
