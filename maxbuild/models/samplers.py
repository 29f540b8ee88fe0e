"""The samplers as graphs: picking a token from logits, and accepting what a draft proposed.

Invariant: they are pure. Chance comes in as numbers, so a region gives the same tokens for the same inputs, on any
device up to rounding; and they are the same for every vocabulary and batch, which are dynamic, so that they are traced
once and compiled once for each target whatever the models are. docs/speculation.md says what each strategy means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from maxbuild.models.export import export_graph
from maxbuild.models.graph import GraphBuilder, InputSpec, RegionGraph
from maxbuild.runtime.samplers import (
    ACCEPT,
    ACCEPT_GREEDY,
    SAMPLE,
    TRUNCATE,
    SamplerCall,
    SamplerProgram,
    Strategy,
)

Values: TypeAlias = Mapping[str, Tensor]
"""The inputs of a sampler by name."""

_TRACE_SIZES = {"batch": 2, "logits": 3, "vocabulary": 96}

_LEAST_TEMPERATURE = 1e-5
"""What temperature 0 is divided by, where the quotient is not used."""

TYPICAL_EPSILON, TYPICAL_DELTA = 0.09, 0.3
"""ε and δ of Medusa's typical acceptance, its own code's `posterior_threshold` and `posterior_alpha`."""

LOGIT_MARGIN = 1e-5
"""How far the draft's logit of a token may be above the main model's: `eps` of MAX's `RejectionSampler`."""

_INPUTS: Mapping[str, tuple[str, tuple[int | str, ...]]] = {
    "logits": ("float32", ("batch", "vocabulary")),
    "target_logits": ("float32", ("batch", "logits", "vocabulary")),
    "temperature": ("float32", ("batch",)),
    "top_k": ("int64", ("batch",)),
    "top_p": ("float32", ("batch",)),
    "least_logit": ("float32", ("batch", 1)),
    "least_logits": ("float32", ("batch", "logits")),
    "pick": ("float64", ("batch",)),
    "picks": ("float64", ("batch", "logits")),
    "coins": ("float64", ("batch", "logits")),
    "proposed": ("int64", ("batch", "logits")),
    "proposals": ("int64", ("batch",)),
    "draft_probabilities": ("float32", ("batch", "logits", "vocabulary")),
    "draft_logits": ("float32", ("batch", "logits")),
    "thinking": ("bool", ("batch",)),
    "markers": ("int64", (2,)),
}
"""The inputs of samplers: dtype and shape. docs/package-format.md says what each means."""


@dataclass(frozen=True, slots=True)
class Relaxed:
    """Relaxed acceptance within spans of thinking: how many candidates, and how far below the likeliest."""

    top_k: int
    delta: float


@dataclass(frozen=True, slots=True)
class Acceptance:
    """How proposals are accepted; coin_rate: the chance of each by itself, of the strategy `synthetic` alone."""

    strategy: Strategy
    relaxed: Relaxed | None = None
    coin_rate: float = 0.0


@dataclass(frozen=True, slots=True)
class Sampler:
    """One sampler: its inputs and outputs by name, and what it computes, as plain torch."""

    call: SamplerCall
    compute: Callable[[Values], Sequence[Tensor]]

    def __call__(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Compute the outputs of the inputs, both in their order."""
        return self.compute(dict(zip(self.call.values, tensors, strict=True)))

    def to_graph(self) -> RegionGraph:
        """Return the sampler as a region."""
        specs = [InputSpec("value", *_INPUTS[name]) for name in self.call.values]
        graph, placeholders, _ = export_graph(self, specs, _TRACE_SIZES)
        builder = GraphBuilder()
        for node, spec in zip(placeholders, specs, strict=True):
            builder.add_input(node, spec)
        graph.eliminate_dead_code()
        for node in graph.nodes:
            if node.op == "call_function":
                builder.add_node(node)
        return builder.finish_contiguous(list(graph.output_node().args[0]))  # type: ignore[arg-type]


def make_samplers(acceptance: Acceptance | None) -> Mapping[str, Sampler]:
    """Return the samplers by name: those that every model has, and with `acceptance` those that judge proposals."""
    truncate = SamplerCall(("target_logits", "temperature", "top_k", "top_p"), ("least_logits",))
    sample = SamplerCall(("logits", "least_logit", "temperature", "pick"), ("tokens", "probabilities"))
    samplers = {TRUNCATE: Sampler(truncate, _truncate), SAMPLE: Sampler(sample, _sample)}
    if acceptance is None:
        return samplers
    return {
        **samplers,
        ACCEPT: Sampler(_accept_call(acceptance, sampled=True), lambda values: _accept(values, acceptance)),
        ACCEPT_GREEDY: Sampler(
            _accept_call(acceptance, sampled=False), lambda values: _accept_greedy(values, acceptance)
        ),
    }


def program_of(samplers: Mapping[str, Sampler], acceptance: Acceptance | None) -> SamplerProgram:
    """Return how samplers are called, as a package says it."""
    strategy = None if acceptance is None else acceptance.strategy
    return SamplerProgram(strategy, {name: sampler.call for name, sampler in samplers.items()})


def coin_rate_of(mean: float, proposals: int) -> float:
    """Return the chance a at which proposals are to be accepted so that of `proposals` the share `mean` stays.

    A proposal stays where it and all before it are accepted, so the mean over places of a + a² + … is to be `mean`.
    The sum grows with a, and a is found by halving what may hold it, to the last bit.
    """
    low, high = 0.0, 1.0
    while low < (middle := (low + high) / 2) < high:
        if sum(middle**place for place in range(1, proposals + 1)) < mean * proposals:
            low = middle
        else:
            high = middle
    # Of the two neighbours the one that is 0 or 1 where that is meant.
    return low if mean <= 0 else high


def _accept_call(acceptance: Acceptance, *, sampled: bool) -> SamplerCall:
    values = ["proposed", "proposals", "target_logits"]
    match acceptance.strategy:
        case Strategy.RESIDUAL if sampled:
            values += ["draft_probabilities", "coins"]
        case Strategy.LOGIT_COMPARISON:
            values += ["draft_logits"]
        case Strategy.SYNTHETIC:
            values += ["coins"]
        case _:
            pass
    values += ["least_logits", "temperature", "picks"] if sampled else []
    values += ["thinking", "markers"] if acceptance.relaxed else []
    return SamplerCall(tuple(values), ("accepted", "next_tokens"))


class _Shares(NamedTuple):
    """What softmax at a temperature makes of logits (…, vocabulary), before it is divided by its sum.

    best: int64 (…, 1), the likeliest. scaled: how far below it each logit is, over the temperature. weights: exp of
    that, and 0 for what was truncated; at temperature 0 all on the likeliest. total: float64 (…, 1), their sum.
    """

    best: Tensor
    scaled: Tensor
    weights: Tensor
    total: Tensor


def _shares(logits: Tensor, least: Tensor, temperature: Tensor) -> _Shares:
    """Return the shares of logits (…, vocabulary), for least (…, 1) and temperature (…, 1)."""
    best = logits.argmax(dim=-1, keepdim=True)
    # Finite, since 0 · -∞ is not a number where an entropy is summed up.
    below = (logits - logits.amax(dim=-1, keepdim=True)).clamp(min=-1e30)
    scaled = below / temperature.clamp(min=_LEAST_TEMPERATURE)
    # Products and not torch.where: a number that stands in a graph would be made on the device while it is compiled.
    warm = scaled.exp() * (logits >= least)
    weights = torch.where(temperature == 0, (_numbers(logits, -1) == best).to(logits.dtype), warm)
    return _Shares(best, scaled, weights, weights.double().sum(dim=-1, keepdim=True))


def _draw(weights: Tensor, pick: Tensor) -> Tensor:
    """Return a token (batch,) for weights (batch, vocabulary): the one in whose share of the sum `pick` (batch,) falls.

    In float64: float32 could not tell shares below 6e-8 apart, and a vocabulary has many such tokens.
    """
    sums = weights.double().cumsum(dim=-1)
    return (sums <= pick[:, None] * sums[:, -1:]).sum(dim=-1)


def _truncate(values: Values) -> Sequence[Tensor]:
    """Return the least logit that stays: of the top_k (0: all), then of the likeliest that have `top_p` in all.

    What is as likely as the least of these stays with it.
    """
    ordered = values["target_logits"].sort(dim=-1, descending=True).values
    top_k, top_p = values["top_k"][:, None, None], values["top_p"][:, None, None]
    temperature = values["temperature"][:, None, None].clamp(min=_LEAST_TEMPERATURE)
    numbers = _numbers(ordered, -1)
    among_k = (top_k == 0) | (numbers < top_k)
    weights = ((ordered - ordered[..., :1]) / temperature).exp().double() * among_k
    sums = weights.cumsum(dim=-1)
    # A token stays where those before it have less than `top_p`, so the first one always does.
    stays = among_k & ((sums - weights < top_p * sums[..., -1:]) | (top_p >= 1))
    last = stays.sum(dim=-1, keepdim=True) - 1
    return [ordered.gather(-1, last)[..., 0]]


def _sample(values: Values) -> Sequence[Tensor]:
    """Return tokens (batch,), and the probabilities (batch, vocabulary) by which they were drawn."""
    shares = _shares(values["logits"], values["least_logit"], values["temperature"][:, None])
    return [_draw(shares.weights, values["pick"]), (shares.weights / shares.total).to(shares.weights.dtype)]


def _accept(values: Values, acceptance: Acceptance) -> Sequence[Tensor]:
    """Return how many proposals stay, and the token after them, both (batch,)."""
    temperature = values["temperature"][:, None, None]
    shares = _shares(values["target_logits"], values["least_logits"][..., None], temperature)
    stays = _judge(values, shares, acceptance.strategy, acceptance.coin_rate)
    if acceptance.relaxed:
        stays = _relax(values, stays, acceptance.relaxed, values["least_logits"])
    accepted = _count(stays, values["proposals"])
    weights = _at(shares.weights, accepted)
    if acceptance.strategy is Strategy.RESIDUAL:
        weights = _residual(values, weights / _at(shares.total, accepted), accepted)
    following = _draw(weights, values["picks"].gather(1, accepted[:, None])[:, 0])
    if acceptance.relaxed:
        refused = _thinks(values).gather(1, accepted[:, None])[:, 0] & (accepted < values["proposals"])
        following = torch.where(refused, _at(shares.best, accepted)[:, 0], following)
    return [accepted, following]


def _accept_greedy(values: Values, acceptance: Acceptance) -> Sequence[Tensor]:
    """Return the same as `_accept` does at temperature 0."""
    logits = values["target_logits"]
    best = logits.argmax(dim=-1)
    match acceptance.strategy:
        case Strategy.LOGIT_COMPARISON:
            stays = values["draft_logits"] <= _of_proposed(values, logits) + LOGIT_MARGIN
        case Strategy.SYNTHETIC:
            stays = values["coins"] < acceptance.coin_rate
        case _:
            stays = best == values["proposed"]
    if acceptance.relaxed:
        stays = _relax(values, stays, acceptance.relaxed, None)
    accepted = _count(stays, values["proposals"])
    return [accepted, best.gather(1, accepted[:, None])[:, 0]]


def _judge(values: Values, shares: _Shares, strategy: Strategy, coin_rate: float) -> Tensor:
    """Return for each place whether what is proposed there stays, as far as that place alone is concerned."""
    proposed, weights = values["proposed"], shares.weights
    chance = _of_proposed(values, weights).double() / shares.total[..., 0]
    match strategy:
        case Strategy.GREEDY:
            # The main model's own token is the one in whose share `picks` falls, as in `_draw`.
            before = weights.double() * (_numbers(weights, -1) < proposed[..., None])
            begin, mark = before.sum(dim=-1), values["picks"] * shares.total[..., 0]
            return (begin <= mark) & (mark < begin + _of_proposed(values, weights).double())
        case Strategy.RESIDUAL:
            return values["coins"] * _of_proposed(values, values["draft_probabilities"]).double() < chance
        case Strategy.TYPICAL_ACCEPTANCE:
            # H = -Σ p log p, with log p = scaled - log total.
            mean = (weights.double() * shares.scaled).sum(dim=-1, keepdim=True) / shares.total
            entropy = (shares.total.log() - mean)[..., 0]
            return chance > (TYPICAL_DELTA * (-entropy).exp()).clamp(max=TYPICAL_EPSILON)
        case Strategy.LOGIT_COMPARISON:
            logit = _of_proposed(values, values["target_logits"])
            return (values["draft_logits"] <= logit + LOGIT_MARGIN) & (logit >= values["least_logits"])
        case Strategy.SYNTHETIC:
            return values["coins"] < coin_rate


def _residual(values: Values, target: Tensor, accepted: Tensor) -> Tensor:
    """Return what to draw from after the accepted: max(0, p - q) where a proposal was refused, else p."""
    refused = (accepted < values["proposals"])[:, None]
    left = (target - _at(values["draft_probabilities"], accepted) * refused).clamp(min=0)
    # Rounding alone can leave nothing; then p and q are the same.
    return left + target * (left.amax(dim=-1, keepdim=True) == 0)


def _relax(values: Values, stays: Tensor, relaxed: Relaxed, least: Tensor | None) -> Tensor:
    """Return `stays`, and within spans of thinking whether the main model thinks nearly as well of the proposal."""
    logits = values["target_logits"]
    logit = _of_proposed(values, logits)
    rank = (logits > logit[..., None]).sum(dim=-1)
    probabilities = torch.softmax(logits, dim=-1)
    near = _of_proposed(values, probabilities) >= probabilities.amax(dim=-1) - relaxed.delta
    freely = (rank < relaxed.top_k) & near
    if least is not None:
        freely = freely & (logit >= least)
    thinks = _thinks(values)
    return (thinks & freely) | (~thinks & stays)


def _thinks(values: Values) -> Tensor:
    """Return (batch, logits) whether each place is within a span of thinking, by the proposals before it.

    A marker at place j weighs 2(j + 1), and 1 more where it begins a span; the heaviest before a place decides.
    """
    proposed, markers = values["proposed"], values["markers"]
    places = _numbers(proposed, -1)
    begins, ends = proposed == markers[0], proposed == markers[1]
    weights = (begins | ends) * 2 * (places + 1) + begins
    before = places[None, :] < places[:, None]
    heaviest = (weights[:, None, :] * before).amax(dim=-1)
    return torch.maximum(heaviest, values["thinking"][:, None].long()) % 2 == 1


def _count(stays: Tensor, proposals: Tensor) -> Tensor:
    """Return how many places (batch,) come before the first that does not stay, or that nothing is proposed for."""
    places, width = _numbers(stays, -1), stays.shape[1]
    gone = ~(stays & (places < proposals[:, None]))
    return width - (gone * (width - places)).amax(dim=-1)


def _of_proposed(values: Values, table: Tensor) -> Tensor:
    """Return what `table` (batch, logits, vocabulary) has for the proposed tokens."""
    return table.gather(2, values["proposed"][..., None])[..., 0]


def _at(table: Tensor, place: Tensor) -> Tensor:
    """Return row `place` (batch,) of a table (batch, logits, …)."""
    return table.gather(1, place[:, None, None].expand(-1, 1, table.shape[2]))[:, 0]


def _numbers(like: Tensor, dim: int) -> Tensor:
    """Return 0, 1, 2 … as many as `like` has along a dimension."""
    return torch.arange(like.shape[dim], device=like.device)
