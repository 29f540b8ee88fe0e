"""Each way to accept proposals, against plain Python: one row and one place after the other, from the definitions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from plain_samplers import plain_samplers

from maxbuild.models.samplers import Acceptance, Relaxed, coin_rate_of
from maxbuild.runtime.samplers import ACCEPT, ACCEPT_GREEDY, Strategy

VOCABULARY, WIDTH = 5, 4
BEGIN, END = 3, 4
"""The tokens that begin and end a span of thinking in these examples."""

ALL = [Acceptance(strategy, coin_rate=0.625) for strategy in Strategy]
RELAXED = [
    Acceptance(Strategy.GREEDY, Relaxed(1, 1.0)),
    Acceptance(Strategy.RESIDUAL, Relaxed(3, 0.25)),
    Acceptance(Strategy.TYPICAL_ACCEPTANCE, Relaxed(5, 0.6)),
    Acceptance(Strategy.LOGIT_COMPARISON, Relaxed(2, 0.0)),
]


@dataclass
class Row:
    """What is judged of one row."""

    proposed: list[int]
    proposals: int
    logits: list[list[float]]
    draft: list[list[float]]
    temperature: float
    least: list[float]
    coins: list[float]
    picks: list[float]
    thinking: bool
    margins: list[float] = field(default_factory=list)
    """How far the numbers that were compared are apart; where they are not, rounding decides."""

    def less(self, one: float, other: float) -> bool:
        """Compare, and note how clear it was."""
        self.margins.append(abs(one - other))
        return one < other

    def shares(self, place: int) -> list[float]:
        """Return the probabilities that the main model's token is drawn by."""
        logits = self.logits[place]
        if self.temperature == 0:
            return [float(token == logits.index(max(logits))) for token in range(VOCABULARY)]
        weights = [math.exp(logit / self.temperature) * (logit >= self.least[place]) for logit in logits]
        return [weight / sum(weights) for weight in weights]


def drawn(row: Row, weights: Sequence[float], pick: float) -> int:
    """Return the token in whose share of the sum `pick` falls."""
    mark = pick * sum(weights)
    return next(token for token in range(VOCABULARY) if row.less(mark, sum(weights[: token + 1])))


def stays(row: Row, place: int, acceptance: Acceptance) -> bool:
    """Return whether the proposal of a place is accepted by itself."""
    token, chances = row.proposed[place], row.shares(place)
    match acceptance.strategy:
        case Strategy.GREEDY:
            return drawn(row, chances, row.picks[place]) == token
        case Strategy.RESIDUAL:
            return row.less(row.coins[place], min(1.0, chances[token] / row.draft[place][token]))
        case Strategy.TYPICAL_ACCEPTANCE:
            entropy = -sum(chance * math.log(chance) for chance in chances if chance > 0)
            return row.less(min(0.09, 0.3 * math.exp(-entropy)), chances[token])
        case Strategy.LOGIT_COMPARISON:
            logit = row.logits[place][token]
            return row.draft[place][token] <= logit + 1e-5 and logit >= row.least[place]
        case Strategy.SYNTHETIC:
            return row.less(row.coins[place], acceptance.coin_rate)


def nearly_as_good(row: Row, place: int, relaxed: Relaxed) -> bool:
    """Return whether a proposal is among the likeliest, and near enough to the very likeliest, without temperature."""
    logits, token = row.logits[place], row.proposed[place]
    chances = [math.exp(logit) / sum(map(math.exp, logits)) for logit in logits]
    among = sum(logit > logits[token] for logit in logits) < relaxed.top_k
    return among and not row.less(chances[token], max(chances) - relaxed.delta) and logits[token] >= row.least[place]


def expected(row: Row, acceptance: Acceptance) -> tuple[int, int]:
    """Return how many proposals stay, and the token after them."""
    thinking, accepted, refused_freely = row.thinking, 0, False
    for place in range(row.proposals):
        freely = acceptance.relaxed is not None and thinking
        relaxed = acceptance.relaxed
        if not (nearly_as_good(row, place, relaxed) if freely and relaxed else stays(row, place, acceptance)):
            refused_freely = freely
            break
        accepted += 1
        if row.proposed[place] in {BEGIN, END}:
            thinking = row.proposed[place] == BEGIN
    logits = row.logits[accepted]
    if refused_freely:
        return accepted, logits.index(max(logits))
    weights = row.shares(accepted)
    if acceptance.strategy is Strategy.RESIDUAL and accepted < row.proposals:
        left = [max(0.0, chance - draft) for chance, draft in zip(weights, row.draft[accepted], strict=True)]
        weights = left if sum(left) > 1e-5 else weights
        row.margins.append(abs(sum(left) - 1e-5))
    return accepted, drawn(row, weights, row.picks[accepted])


def judged(rows: Sequence[Row], acceptance: Acceptance, *, greedy: bool = False) -> list[tuple[int, int]]:
    """Return what the sampler says of a batch of rows."""
    float64, tokens = torch.float64, [row.proposed for row in rows]
    draft = torch.tensor([row.draft for row in rows])
    values = {
        "proposed": torch.tensor(tokens),
        "proposals": torch.tensor([row.proposals for row in rows]),
        "target_logits": torch.tensor([row.logits for row in rows]),
        "draft_probabilities": draft,
        "draft_logits": draft.gather(2, torch.tensor(tokens)[..., None])[..., 0],
        "temperature": torch.tensor([row.temperature for row in rows]),
        "least_logits": torch.tensor([row.least for row in rows]),
        "coins": torch.tensor([row.coins for row in rows], dtype=float64),
        "picks": torch.tensor([row.picks for row in rows], dtype=float64),
        "thinking": torch.tensor([row.thinking for row in rows]),
        "markers": torch.tensor([BEGIN, END]),
    }
    accepted, following = plain_samplers(acceptance)(ACCEPT_GREEDY if greedy else ACCEPT, values)
    return list(zip(accepted.tolist(), following.tolist(), strict=True))


EIGHTHS = st.integers(-24, 24).map(lambda n: n / 8)
LOGITS = st.lists(EIGHTHS, min_size=VOCABULARY, max_size=VOCABULARY, unique=True)
CHANCE = st.integers(0, (1 << 32) - 1).map(lambda n: n / (1 << 32))
SHARES = st.lists(st.integers(1, 20), min_size=VOCABULARY, max_size=VOCABULARY).map(
    lambda parts: [part / sum(parts) for part in parts]
)


def each(values: st.SearchStrategy[object]) -> st.SearchStrategy[list[object]]:
    return st.lists(values, min_size=WIDTH, max_size=WIDTH)


@st.composite
def rows(draw: st.DrawFn, *, temperatures: Sequence[float] = (0.0, 0.5, 1.0, 2.0), as_logits: bool = False) -> Row:
    """Return a row; the draft's numbers are probabilities, or logits where these are compared."""
    logits = draw(each(LOGITS))
    # What top-k and top-p leave begins at some token's logit, or leaves all.
    ranks = draw(each(st.integers(0, VOCABULARY - 1)))
    temperature = draw(st.sampled_from(temperatures))
    all_stay = temperature == 0
    least = [-math.inf if rank == 0 or all_stay else sorted(of)[rank] for rank, of in zip(ranks, logits, strict=True)]
    return Row(
        proposed=draw(each(st.integers(0, VOCABULARY - 1))),
        proposals=draw(st.integers(0, WIDTH - 1)),
        logits=logits,
        draft=draw(each(LOGITS if as_logits else SHARES)),
        temperature=temperature,
        least=least,
        coins=draw(each(CHANCE)),
        picks=draw(each(CHANCE)),
        thinking=draw(st.booleans()),
    )


def compare(batch: Sequence[Row], acceptance: Acceptance, *, greedy: bool = False) -> None:
    wanted = [expected(row, acceptance) for row in batch]
    assume(all(margin > 1e-6 for row in batch for margin in row.margins))
    assert judged(batch, acceptance, greedy=greedy) == wanted


def named(acceptance: Acceptance) -> str:
    relaxed = acceptance.relaxed
    return f"{acceptance.strategy}" + (f" {relaxed.top_k} {relaxed.delta}" if relaxed else "")


@pytest.mark.parametrize("acceptance", [*ALL, *RELAXED], ids=named)
def test_accepts_what_the_definitions_say(acceptance: Acceptance) -> None:
    """Any rows of a batch, of different temperatures and numbers of proposals, come out as by plain Python."""
    as_logits = acceptance.strategy is Strategy.LOGIT_COMPARISON

    @settings(max_examples=40, deadline=None)
    @given(st.lists(rows(as_logits=as_logits), min_size=1, max_size=3))
    def check(batch: list[Row]) -> None:
        compare(batch, acceptance)

    check()


@pytest.mark.parametrize("acceptance", [*ALL, *RELAXED], ids=named)
def test_the_short_way_at_temperature_zero_comes_to_the_same(acceptance: Acceptance) -> None:
    """`accept.greedy` is `accept` at temperature 0, with a draft that is as sure of itself."""
    as_logits = acceptance.strategy is Strategy.LOGIT_COMPARISON

    @settings(max_examples=25, deadline=None)
    @given(st.lists(rows(temperatures=[0.0], as_logits=as_logits), min_size=1, max_size=3))
    def check(batch: list[Row]) -> None:
        for row in batch:
            if acceptance.strategy is Strategy.RESIDUAL:
                row.draft = [[float(token == chosen) for token in range(VOCABULARY)] for chosen in row.proposed]
        compare(batch, acceptance, greedy=True)
        assert judged(batch, acceptance) == judged(batch, acceptance, greedy=True)

    check()


@pytest.mark.parametrize("strategy", [Strategy.GREEDY, Strategy.RESIDUAL, Strategy.TYPICAL_ACCEPTANCE])
def test_at_temperature_zero_three_strategies_are_one(strategy: Strategy) -> None:
    """Each takes the likeliest tokens and nothing else."""

    @settings(max_examples=25, deadline=None)
    @given(rows(temperatures=[0.0]))
    def check(row: Row) -> None:
        best = [logits.index(max(logits)) for logits in row.logits]
        count = next((n for n in range(row.proposals) if row.proposed[n] != best[n]), row.proposals)
        assert judged([row], Acceptance(strategy), greedy=True) == [(count, best[count])]

    check()


def test_a_span_of_thinking_begins_and_ends_within_the_proposals() -> None:
    """A place is judged freely by what was proposed before it: the marker itself still by the rule before it."""
    second = [[0.0, 1.0, -9.0, -9.0, -9.0]] * WIDTH  # token 0 is no one's first choice, and a near second
    acceptance = Acceptance(Strategy.GREEDY, Relaxed(2, 1.0))

    def accepted(proposed: list[int], *, thinking: bool) -> int:
        near = [[*logits] for logits in second]
        for place, token in enumerate(proposed):
            if token in {BEGIN, END}:
                # What begins a span is the likeliest; what ends one a near second, which the strict rule refuses.
                near[place][token] = 9.0 if token == BEGIN else 0.5
        row = Row(proposed, 3, near, second, 0.0, [-math.inf] * WIDTH, [0.5] * WIDTH, [0.5] * WIDTH, thinking)
        ((count, _),) = judged([row], acceptance)
        return count

    assert accepted([0, 0, 0, 0], thinking=True) == 3
    assert accepted([0, 0, 0, 0], thinking=False) == 0
    assert accepted([BEGIN, 0, 0, 0], thinking=False) == 3
    assert accepted([0, END, 0, 0], thinking=True) == 2
    assert accepted([END, BEGIN, 0, 0], thinking=True) == 3


@settings(max_examples=100, deadline=None)
@given(st.floats(0, 1), st.integers(1, 32))
def test_the_chance_of_a_place_gives_the_mean_that_is_asked_for(mean: float, proposals: int) -> None:
    """The mean over places of a, a², … is the rate, to the last bits; 0 and 1 are themselves."""
    chance = coin_rate_of(mean, proposals)
    assert 0 <= chance <= 1
    joint = sum(chance**place for place in range(1, proposals + 1)) / proposals
    assert joint == pytest.approx(mean, abs=1e-12)
    assert coin_rate_of(0.0, proposals) == 0
    assert coin_rate_of(1.0, proposals) == 1


def test_synthetic_acceptance_hits_its_mean() -> None:
    """Over 20,000 rounds of 5 proposals the accepted share is the rate within four of its standard errors."""
    proposals, rounds = 5, 20_000
    random = torch.Generator().manual_seed(7)
    for rate in (0.2, 0.8):
        acceptance = Acceptance(Strategy.SYNTHETIC, coin_rate=coin_rate_of(rate, proposals))
        values = {
            "proposed": torch.zeros(rounds, proposals + 1, dtype=torch.int64),
            "proposals": torch.full((rounds,), proposals),
            "target_logits": torch.tensor([0.0, 1.0]).expand(rounds, proposals + 1, 2),
            "coins": torch.rand(rounds, proposals + 1, generator=random, dtype=torch.float64),
        }
        accepted, following = plain_samplers(acceptance)(ACCEPT_GREEDY, values)
        shares = accepted.double() / proposals
        error = float(shares.std()) / rounds**0.5
        assert abs(float(shares.mean()) - rate) < 4 * error
        assert error < 0.003, "the rate is measured sharply"
        assert set(following.tolist()) == {1}
