"""Picking tokens: what the options mean, and what they refuse."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from maxbuild.errors import UsageError
from maxbuild.runtime.generate import Picker, Sampling

LOGITS = torch.tensor([[2.0, 1.0, 0.0, -1.0]])


def draw(sampling: Sampling, count: int = 400) -> Counter[int]:
    """Return how often each token is picked."""
    picker = Picker(sampling)
    return Counter(int(picker.pick(LOGITS, place)) for place in range(count))


def test_temperature_zero_takes_the_likeliest() -> None:
    """Without temperature there is no chance in it."""
    assert draw(Sampling()) == {0: 400}


def test_shares_follow_the_softmax() -> None:
    """At temperature 1 tokens come as often as their probabilities say, within five standard errors."""
    drawn, probabilities = draw(Sampling(temperature=1.0), 4000), torch.softmax(LOGITS[0], 0).tolist()
    for token, probability in enumerate(probabilities):
        spread = 5 * (probability * (1 - probability) / 4000) ** 0.5
        assert abs(drawn[token] / 4000 - probability) < spread


def test_top_k_and_top_p_keep_the_likely() -> None:
    """top_k keeps k tokens; top_p the smallest set that reaches p."""
    assert draw(Sampling(temperature=5.0, top_k=2)).keys() == {0, 1}
    assert draw(Sampling(temperature=1.0, top_p=0.6)).keys() == {0}
    assert draw(Sampling(temperature=1.0, top_p=0.7)).keys() == {0, 1}


def test_chance_depends_on_the_seed_and_the_place_alone() -> None:
    """A place gets the same token whatever was picked before it and beside it, so a draft changes nothing."""
    sampling = Sampling(temperature=1.0, seed=3)
    together = Picker(sampling).pick(LOGITS.expand(64, -1), 100).tolist()
    alone = Picker(sampling)
    assert together == [int(alone.pick(LOGITS, place)) for place in reversed(range(100, 164))][::-1]
    assert together != Picker(Sampling(temperature=1.0, seed=4)).pick(LOGITS.expand(64, -1), 100).tolist()
    assert len(set(together)) > 1


def test_picks_as_torch_does() -> None:
    """A pick is that of torch.multinomial, given the state of the generator."""
    sampling = Sampling(temperature=0.7, top_k=3, seed=5)
    picker = Picker(sampling)
    for place in range(50):
        got = int(picker.pick(LOGITS, place))
        random = torch.Generator().manual_seed(picker._seed(place))
        kept = (LOGITS[0] / 0.7).masked_fill(torch.tensor([False, False, False, True]), float("-inf"))
        assert got == int(torch.multinomial(torch.softmax(kept, -1), 1, generator=random))


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"temperature": 1e-40},
        {"temperature": float("inf")},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"seed": -1},
        {"seed": 1 << 64},
    ],
)
def test_refuses_what_means_nothing(options: dict[str, float]) -> None:
    """Values that would end in nonsense are refused by name."""
    with pytest.raises(UsageError):
        Sampling(**options)  # type: ignore[arg-type]
