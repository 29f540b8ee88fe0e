"""Speculation on toy models: what each strategy leaves of the text, how far a draft reaches, and what is counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from plain_samplers import plain_samplers, speculation_of
from torch.nn import functional
from toy_model import VOCABULARY, toy_model

from maxbuild.errors import UsageError
from maxbuild.models.samplers import Acceptance, Relaxed, coin_rate_of
from maxbuild.runtime.generate import Statistics, generate
from maxbuild.runtime.model import Model
from maxbuild.runtime.samplers import Strategy
from maxbuild.runtime.sampling import Sampling
from maxbuild.runtime.speculation import Markers, Speculation, Thinking

CPU = torch.device("cpu")
PROMPT = [3, 1, 4, 1, 5]
WARM = Sampling(temperature=1.0, top_k=12, top_p=0.9, seed=2)
LOSSLESS_COLD = [Strategy.GREEDY, Strategy.RESIDUAL, Strategy.TYPICAL_ACCEPTANCE]


def text_of(
    speculation: Speculation | None, sampling: Sampling | None = None, count: int = 30
) -> tuple[list[int], Statistics]:
    """Return what the toy says, and how it came about."""
    generation = generate(
        toy_model(1, CPU), PROMPT, count, sampling=sampling, samplers=plain_samplers(), speculation=speculation
    )
    return list(generation.tokens), generation.statistics


def nearly(noise: float = 0.4) -> Model:
    """Return a draft that often thinks the same."""
    return toy_model(1, CPU, noise=noise)


def resized(model: Model, size: int) -> Model:
    """Return `model` with a vocabulary of `size`: the last tokens cut off, or more of them that nobody knows."""
    more = max(0, size - VOCABULARY)
    weights = {
        **model.weights,
        "embedding": functional.pad(model.weights["embedding"], (0, 0, 0, more))[:size].clone(),
        # Likelier than any other, so that they would be proposed if they could be.
        "head": functional.pad(model.weights["head"], (0, more), value=9.0)[:, :size].contiguous(),
    }
    return Model(replace(model.program, vocab_size=size), model._regions, weights)


@pytest.mark.parametrize("strategy", LOSSLESS_COLD)
@pytest.mark.parametrize("proposals", [1, 3, 7])
def test_at_temperature_zero_the_draft_changes_nothing(strategy: Strategy, proposals: int) -> None:
    """Greedy, residual and typical acceptance give the main model's likeliest tokens, proposals taken and refused."""
    tokens, statistics = text_of(speculation_of(nearly(), proposals, strategy))
    assert tokens == text_of(None)[0]
    assert 0 < statistics.accepted < statistics.proposed


@pytest.mark.parametrize("noise", [0.0, 0.4, 5.0])
def test_greedy_gives_the_tokens_of_no_draft_at_any_temperature(noise: float) -> None:
    """A seed gives one text, whatever the draft thinks: a proposal stays where it is what the main model draws."""
    tokens, statistics = text_of(speculation_of(nearly(noise), 4, Strategy.GREEDY), WARM)
    assert tokens == text_of(None, WARM)[0]
    assert statistics.proposed > 0


def test_a_draft_that_is_the_main_model_is_always_accepted() -> None:
    """Where p and q are the same, residual refuses nothing."""
    _, statistics = text_of(speculation_of(nearly(0.0), 4, Strategy.RESIDUAL), WARM)
    assert statistics.acceptance_rate == 1


@pytest.mark.parametrize("strategy", Strategy)
@pytest.mark.parametrize("sampling", [None, WARM], ids=["cold", "warm"])
def test_a_text_longer_than_the_drafts_longest_row_goes_on(strategy: Strategy, sampling: Sampling | None) -> None:
    """Beyond its `max_length` the draft proposes nothing more, and the main model writes the rest."""
    draft = nearly()
    short = Model(
        type(draft.program)(
            max_length=12,
            vocab_size=VOCABULARY,
            dtype="float32",
            caches=draft.program.caches,
            steps=draft.program.steps,
        ),
        draft._regions,
        draft.weights,
    )
    acceptance = Acceptance(strategy, coin_rate=0.8)
    tokens, statistics = text_of(speculation_of(short, 4, acceptance), sampling)
    assert len(tokens) == 30
    # Rows of 12 tokens hold the prompt of 5 and the first token; each proposal is in a row of the draft's.
    assert 0 < statistics.proposed <= sum(range(7))
    if strategy in LOSSLESS_COLD and sampling is None:
        assert tokens == text_of(None)[0]


def test_a_text_ends_at_the_longest_row() -> None:
    """With proposals the last rounds are narrower, and no token comes too many."""
    for proposals in (1, 4, 9):
        tokens, _ = text_of(speculation_of(nearly(), proposals, Strategy.RESIDUAL), WARM, count=1000)
        assert len(PROMPT) + len(tokens) == 40


def test_acceptance_is_counted_by_place() -> None:
    """A place counts as often as something was proposed there, and as accepted where all before it were too."""
    _, statistics = text_of(speculation_of(nearly(), 4), count=1000)
    acceptance = statistics.acceptance
    assert len(acceptance.proposed_at) == 4
    assert acceptance.accepted_at == sorted(acceptance.accepted_at, reverse=True)
    assert acceptance.rates[0] == acceptance.accepted_at[0] / acceptance.proposed_at[0]
    assert sum(acceptance.accepted_at) == statistics.accepted
    rounds = acceptance.proposed_at[0]
    # Every round adds a token of the main model's; so do the prompt, and the last run without room for a proposal.
    assert statistics.new_tokens - statistics.accepted - rounds in {1, 2}


def test_synthetic_acceptance_hits_its_mean_in_a_text() -> None:
    """A proposal is accepted as often as the rate wants it, within four standard errors, though the draft is wrong."""
    proposals, rate, shares = 3, 0.6, []
    acceptance = Acceptance(Strategy.SYNTHETIC, coin_rate=coin_rate_of(rate, proposals))
    speculation = speculation_of(nearly(5.0), proposals, acceptance)
    for seed in range(16):
        _, statistics = text_of(speculation, Sampling(seed=seed), count=34)
        # Of the first place, which no round is too narrow for.
        shares.append(statistics.acceptance.accepted_at[0] / statistics.acceptance.proposed_at[0])
    mean = torch.tensor(shares).mean().item()
    error = torch.tensor(shares).std().item() / len(shares) ** 0.5
    assert abs(mean - acceptance.coin_rate) < 4 * error
    assert error < 0.04


def test_spans_of_thinking_are_followed() -> None:
    """The last marker decides, in the prompt and in what was generated; without markers there is no span."""
    markers = Markers(7, 8)
    thinking = Thinking(markers, [1, 7, 2])
    seen = [thinking.now]
    for token in (3, 8, 4, 7, 7, 8):
        thinking.see(token)
        seen.append(thinking.now)
    assert seen == [True, True, False, False, True, True, False]
    assert not Thinking(None, [7]).now


@pytest.mark.parametrize("strategy", [Strategy.GREEDY, Strategy.RESIDUAL])
@pytest.mark.parametrize("sampling", [None, Sampling(temperature=1.0)], ids=["cold", "warm"])
def test_relaxed_acceptance_is_within_a_span_alone(strategy: Strategy, sampling: Sampling | None) -> None:
    """Outside of one the text is that of the strict rule; within one every proposal can stay, the draft's likeliest."""
    free = Acceptance(strategy, Relaxed(VOCABULARY, 1.0))

    def run(markers: Markers) -> tuple[list[int], Statistics]:
        return text_of(speculation_of(nearly(5.0), 4, free, markers), sampling)

    strict, _ = text_of(speculation_of(nearly(5.0), 4, strategy), sampling)
    never = next(token for token in range(VOCABULARY) if token not in {*PROMPT, *strict})
    outside, _ = run(Markers(never, never))
    assert outside == strict
    within, statistics = run(Markers(PROMPT[-1], -1))
    assert statistics.acceptance_rate == 1
    assert within != strict


def test_relaxed_acceptance_lets_nothing_through_that_top_k_drops() -> None:
    """With `top_k` 1 the text is the main model's likeliest, within a span as well."""
    free = Acceptance(Strategy.RESIDUAL, Relaxed(VOCABULARY, 1.0))
    speculation = speculation_of(nearly(5.0), 4, free, Markers(PROMPT[-1], -1))
    assert text_of(speculation, Sampling(temperature=1.0, top_k=1))[0] == text_of(None)[0]


def test_samplers_of_a_package_without_a_draft_accept_nothing() -> None:
    """They pick tokens, and who wants to speculate with them is told."""
    with pytest.raises(UsageError, match="accept no proposals"):
        text_of(Speculation(nearly(), 4, plain_samplers()))


def test_every_use_of_chance_has_numbers_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """No number decides two things: those of a place for proposing, judging and picking are read apart."""
    from maxbuild.runtime import sampling as module

    read: list[tuple[int, int]] = []
    numbers = module.Picker.numbers

    def watched(self: module.Picker, use: module.Use, place: int, count: int) -> torch.Tensor:
        read.extend((use, place + offset) for offset in range(count))
        return numbers(self, use, place, count)

    monkeypatch.setattr(module.Picker, "numbers", watched)
    text_of(speculation_of(nearly(), 4, Strategy.RESIDUAL), WARM)
    uses = {use: {place for other, place in read if other == use} for use in module.Use}
    assert all(uses.values())
    drawn: Sequence[torch.Tensor] = list(module.random_numbers(2, 40))
    assert not any(torch.equal(drawn[one], drawn[other]) for one in range(3) for other in range(one))


@pytest.mark.parametrize("strategy", LOSSLESS_COLD)
@pytest.mark.parametrize("size", [VOCABULARY - 3, VOCABULARY + 5])
def test_a_draft_of_another_vocabulary_changes_nothing(strategy: Strategy, size: int) -> None:
    """Tokens that the draft lacks are read as its last one; those that the main model lacks are never proposed."""
    tokens, statistics = text_of(speculation_of(resized(nearly(), size), 4, strategy))
    assert tokens == text_of(None)[0]
    assert statistics.accepted > 0


@pytest.mark.parametrize("size", [VOCABULARY - 3, VOCABULARY + 5])
def test_a_draft_of_another_vocabulary_may_draw(size: int) -> None:
    """By chance too, every token is one of the main model's."""
    tokens, _ = text_of(speculation_of(resized(nearly(), size), 4, Strategy.RESIDUAL), WARM)
    assert len(tokens) == 30
    assert max(tokens) < VOCABULARY
