"""Who wins: forms are measured in turn, and an alternative must be faster by more than a stated margin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxbuild.tuning.contest import MARGIN, WARM_UPS, measure, winner


class ScriptedClock:
    """Says what `script` says for the number of the measurement and the form that ran in it."""

    def __init__(self, script: Callable[[int, int], float]) -> None:
        self.script = script
        self.ran: list[int] = []

    def seconds(self, work: Callable[[], object]) -> float:
        work()
        return self.script(len(self.ran) - 1, self.ran[-1])

    def forms(self, count: int) -> Mapping[int, Callable[[], object]]:
        return {rank: lambda rank=rank: self.ran.append(rank) for rank in range(count)}  # type: ignore[misc]


def test_forms_run_in_turn_and_every_second_round_backwards() -> None:
    """No form always follows the same other one, and what warms up is in no figure."""
    clock = ScriptedClock(lambda number, rank: 99.0 if number < 3 * WARM_UPS else 1.0 + rank)
    found = measure(clock.forms(3), clock, rounds=2)
    assert clock.ran[-6:] == [0, 1, 2, 2, 1, 0]
    assert len(clock.ran) == 3 * (WARM_UPS + 2)
    assert {rank: timing.seconds for rank, timing in found.items()} == {0: 1.0, 1: 2.0, 2: 3.0}


def test_shares_are_of_the_same_round() -> None:
    """A device that changes its clock slows all forms of a round: medians of different rounds say nothing together."""
    taken = {0: [1.0, 10.0, 4.0], 1: [0.9, 9.0, 8.0]}
    clock = ScriptedClock(lambda number, rank: taken[rank][max(number // 2 - WARM_UPS, 0)])
    assert measure(clock.forms(2), clock, rounds=3) == {0: (4.0, 1.0), 1: (8.0, 0.9)}


def test_a_stray_measurement_changes_nothing() -> None:
    """One sample that an interrupt made a thousand times as long is no figure."""
    clock = ScriptedClock(lambda number, _: 1000.0 if number == 2 * WARM_UPS else 1.0)
    assert measure(clock.forms(2), clock, rounds=5) == {0: (1.0, 1.0), 1: (1.0, 1.0)}


def test_a_clock_that_saw_nothing_breaks_nothing() -> None:
    """Work that is too short for a clock is equal work."""
    clock = ScriptedClock(lambda *_: 0.0)
    assert winner({rank: [timing.ratio] for rank, timing in measure(clock.forms(2), clock, 3).items()}) == 0


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ({0: [1, 1, 1]}, 0),
        ({0: [1, 1, 1], 1: [0.9, 0.9, 0.9]}, 1),
        ({0: [1, 1, 1], 1: [0.98, 0.98, 0.98]}, 0),  # within the margin
        ({0: [1, 1, 1], 1: [0.5, 0.5, 1.1]}, 0),  # slower for one workload
        ({0: [1, 1, 1], 1: [0.5, 0.9, 1.02]}, 1),  # slower for one, by less than the margin
        ({0: [1, 1, 1], 1: [0.9, 0.9, 0.9], 2: [0.8, 0.8, 0.8]}, 2),
        ({0: [1, 1, 1], 2: [0.9, 0.9, 0.9], 1: [0.9, 0.9, 0.9]}, 1),  # the one that the rule would have taken first
    ],
)
def test_the_default_stays_unless_it_is_beaten_clearly(ratios: dict[int, list[float]], expected: int) -> None:
    """An alternative wins by more than the margin in the mean, and loses by more than it for no workload."""
    assert winner(ratios) == expected


@given(st.lists(st.lists(st.floats(0.01, 100), min_size=3, max_size=3), max_size=4))
def test_a_winner_is_faster_than_the_default_and_no_slower_than_another(shares: list[list[float]]) -> None:
    """Whatever was measured, the rule's own bounds hold for what it takes."""
    ratios = {0: [1.0, 1.0, 1.0], **dict(enumerate(shares, 1))}
    taken = winner(ratios)
    fair = [rank for rank in ratios if rank and max(ratios[rank]) <= 1 + MARGIN and prod(ratios[rank]) < 0.9]
    if taken:
        assert prod(ratios[taken]) ** (1 / 3) <= 1 - MARGIN + 1e-9
        assert all(prod(ratios[taken]) <= prod(ratios[rank]) * (1 + 1e-9) for rank in fair)
    else:
        assert not fair
