"""The forms of one region against each other: measured in turn, and judged by a stated rule.

The rule: an alternative takes the default's place if its time, as a share of the default's, is at most 1 - `MARGIN` in
the geometric mean over the workloads, and above 1 + `MARGIN` in none. The least mean wins, of equal ones the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import geometric_mean, median
from typing import NamedTuple

from maxbuild.tuning.clock import Clock

MARGIN = 0.03
ROUNDS = 30
WARM_UPS = 5

_LEAST = 1e-9
"""Seconds; no clock of a device is as fine."""


class Timing(NamedTuple):
    """What one form took for one workload: the median, in seconds, and its share of the default's time."""

    seconds: float
    ratio: float


def measure(forms: Mapping[int, Callable[[], object]], clock: Clock, rounds: int = ROUNDS) -> Mapping[int, Timing]:
    """Measure all `forms` once a round, by rank; 0 is the default. Every second round goes through them backwards.

    A share is the median of those within each round: what slows all of a round, such as the device's clock, drops out.
    """
    samples: dict[int, list[float]] = {rank: [] for rank in forms}
    for number in range(-WARM_UPS, rounds):
        for rank in reversed(list(forms)) if number % 2 else forms:
            seconds = clock.seconds(forms[rank])
            if number >= 0:
                samples[rank].append(max(seconds, _LEAST))
    default = samples[0]
    return {
        rank: Timing(median(taken), median(mine / theirs for mine, theirs in zip(taken, default, strict=True)))
        for rank, taken in samples.items()
    }


def winner(ratios: Mapping[int, Sequence[float]]) -> int:
    """Return the rank that the rule lets run, 0 for the default; `ratios` are shares by rank and workload."""
    means = {
        rank: geometric_mean(shares)
        for rank, shares in ratios.items()
        if rank and geometric_mean(shares) <= 1 - MARGIN and max(shares) <= 1 + MARGIN
    }
    return min(means, key=lambda rank: (means[rank], rank), default=0)
