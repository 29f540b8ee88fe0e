"""Picking tokens: what the options mean, what they refuse, and what chance depends on."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from plain_samplers import plain_samplers

from maxbuild.errors import UsageError
from maxbuild.runtime.sampling import Picker, Sampling, Use, random_numbers

LOGITS = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
LENGTH = 4000


def picker(sampling: Sampling, length: int = LENGTH) -> Picker:
    return Picker(sampling, length, samplers=plain_samplers())


def draw(sampling: Sampling, count: int = 400) -> Counter[int]:
    """Return how often each token is picked."""
    picks = picker(sampling)
    return Counter(int(picks.pick(LOGITS, place)) for place in range(count))


def kept(logits: list[float], sampling: Sampling) -> set[int]:
    """Return the tokens that may be picked."""
    least = picker(sampling, 1).least_logits(torch.tensor([[logits]]))
    return {token for token, logit in enumerate(logits) if logit >= float(least)}


def test_temperature_zero_takes_the_likeliest() -> None:
    """Without temperature there is no chance in it, and no sampler is needed."""
    plain = Picker(Sampling(), 1)
    assert int(plain.pick(LOGITS, 0)) == 0
    assert draw(Sampling()) == {0: 400}


def test_shares_follow_the_softmax() -> None:
    """At temperature 1 tokens come as often as their probabilities say, within five standard errors."""
    drawn, probabilities = draw(Sampling(temperature=1.0), LENGTH), torch.softmax(LOGITS[0], 0).tolist()
    for token, probability in enumerate(probabilities):
        spread = 5 * (probability * (1 - probability) / LENGTH) ** 0.5
        assert abs(drawn[token] / LENGTH - probability) < spread


def test_top_k_and_top_p_keep_the_likely() -> None:
    """top_k keeps k tokens; top_p the smallest set that reaches p."""
    assert draw(Sampling(temperature=5.0, top_k=2)).keys() == {0, 1}
    assert draw(Sampling(temperature=1.0, top_p=0.6)).keys() == {0}
    assert draw(Sampling(temperature=1.0, top_p=0.7)).keys() == {0, 1}


@settings(max_examples=200, deadline=None)
@given(
    logits=st.lists(st.integers(-40, 40).map(lambda n: n / 8), min_size=3, max_size=12, unique=True),
    temperature=st.sampled_from([0.25, 1.0, 4.0]),
    top_k=st.integers(0, 14),
    top_p=st.sampled_from([0.05, 0.3, 0.6, 0.95, 1.0]),
)
def test_what_is_left_is_what_plain_python_leaves(
    logits: list[float], temperature: float, top_k: int, top_p: float
) -> None:
    """First the top k, then of these the likeliest until they have `top_p` of what these have in all."""
    ranked = sorted(range(len(logits)), key=lambda token: -logits[token])[: top_k or None]
    weights = [math.exp((logits[token] - max(logits)) / temperature) for token in ranked]
    shares = [sum(weights[:rank]) / sum(weights) for rank in range(len(ranked))]
    assume(top_p == 1 or all(abs(share - top_p) > 1e-6 for share in shares))  # rounding decides on the very edge
    expected = {token for token, share in zip(ranked, shares, strict=True) if share < top_p or top_p == 1}
    assert kept(logits, Sampling(temperature, top_k, top_p)) == expected


def test_what_is_as_likely_as_the_last_stays_with_it() -> None:
    """Of equal tokens none is dropped for the order in which they stand."""
    assert kept([1.0, 0.0, 1.0, 1.0], Sampling(1.0, top_k=2)) == {0, 2, 3}
    assert kept([1.0, 0.0, 1.0, 1.0], Sampling(1.0, top_p=0.1)) == {0, 2, 3}


def test_all_are_left_where_nothing_is_dropped() -> None:
    """`top_p` 1 and `top_k` 0 keep even what rounding makes nothing of."""
    assert kept([0.0, -200.0], Sampling(1.0, top_k=2)) == {0, 1}
    assert kept([0.0, -200.0], Sampling(1.0)) == {0, 1}


def test_chance_depends_on_the_seed_and_the_place_alone() -> None:
    """A place gets the same token whatever was picked before it and however long the text may be."""
    sampling = Sampling(temperature=1.0, seed=3)
    one, other = picker(sampling, 164), picker(sampling, 1000)
    forth = [int(one.pick(LOGITS, place)) for place in range(100, 164)]
    back = [int(other.pick(LOGITS, place)) for place in reversed(range(100, 164))]
    assert forth == back[::-1]
    another = picker(Sampling(temperature=1.0, seed=4))
    assert forth != [int(another.pick(LOGITS, place)) for place in range(100, 164)]
    assert len(set(forth)) > 1


def test_seeds_far_above_32_bits_differ() -> None:
    """Every bit of a seed counts."""
    numbers = [random_numbers(seed, 8) for seed in (1, 1 + (1 << 32), 1 + (1 << 62))]
    assert not torch.equal(numbers[0], numbers[1])
    assert not torch.equal(numbers[0], numbers[2])


def test_random_numbers_are_even_and_of_one_use_each() -> None:
    """They fill [0, 1) evenly, and those of one use tell nothing of another's, within five standard errors."""
    numbers = random_numbers(11, 20_000)
    assert numbers.shape == (len(Use), 20_000)
    assert float(numbers.min()) >= 0
    assert float(numbers.max()) < 1
    tenths = torch.stack([torch.histc(row, 10, 0, 1) for row in numbers])
    assert (tenths - 2000).abs().max() < 5 * (2000 * 0.9) ** 0.5
    between = torch.corrcoef(numbers) - torch.eye(len(Use))
    assert between.abs().max() < 5 / 20_000**0.5


def test_rare_tokens_come_as_often_as_they_should() -> None:
    """A draw goes through shares of float64: of a million equal tokens those at the end are found like the first."""
    size = 1_000_000
    samplers = plain_samplers()
    values = {
        "logits": torch.zeros(1, size),
        "least_logit": torch.full((1, 1), -math.inf),
        "temperature": torch.ones(1),
    }
    for token in (0, 1, 7, size // 2, size - 1):
        pick = torch.tensor([(token + 0.5) / size], dtype=torch.float64)
        assert int(samplers("sample", {**values, "pick": pick})[0]) == token


def test_chance_needs_samplers() -> None:
    """Without compiled samplers a temperature is refused."""
    with pytest.raises(UsageError, match="no samplers"):
        Picker(Sampling(temperature=1.0), 1)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"temperature": 1e-40},
        {"temperature": float("inf")},
        {"top_k": -1},
        {"top_k": 1 << 63},
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
