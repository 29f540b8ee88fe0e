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
    return Counter(picker.pick(LOGITS) for _ in range(count))


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


def test_a_seed_is_a_stream() -> None:
    """The same seed picks the same tokens, and only those taken move the stream."""
    first, second = Picker(Sampling(temperature=1.0, seed=3)), Picker(Sampling(temperature=1.0, seed=3))
    several = LOGITS.expand(5, -1)
    taken = [next(first.picks(several)) for _ in range(10)]
    assert taken == [second.pick(LOGITS) for _ in range(10)]


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
