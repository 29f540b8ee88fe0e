"""That residual acceptance leaves the main model's distribution as it is, on the distributions of the demo's models.

Each control states its power: `noncentrality` is by how much a wrong sampler moves chi squared, which otherwise is
spread by √(2 · cells). The seeds are fixed, so a test gives the same answer each time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from chi_squared import noncentrality, surprise
from plain_samplers import plain_samplers
from spaces import MODELS
from torch import Tensor

from maxbuild.models import samplers as module
from maxbuild.models.samplers import Acceptance
from maxbuild.runtime.samplers import ACCEPT, SAMPLE, TRUNCATE, Strategy

SAMPLES = 100_000
ROWS = 20_000
"""As many samples at once; the rest is done in turn."""

TOKENS = 48
"""The main model's likeliest tokens; the others are as good as never drawn, and left out to save time."""

ONCE_IN_A_MILLION = 4.75
CERTAIN = 12.0

Truncation = tuple[float, int, float]
WAYS: list[Truncation] = [(1.0, 0, 1.0), (1.5, 0, 0.9), (0.7, 8, 1.0), (1.0, 20, 0.95)]
"""Temperature, top_k and top_p."""


class Pair(NamedTuple):
    """What both models say after the same words of the main model's likeliest tokens: logits (1, TOKENS) each."""

    main: Tensor
    draft: Tensor


@pytest.fixture(scope="module")
def pair() -> Pair:
    """Return logits of the demo's models at a place where they do not quite agree."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    words = AutoTokenizer.from_pretrained(MODELS / "tiny-gemma3")("the small cat sees a", return_tensors="pt")
    with torch.inference_mode():
        logits = [
            AutoModelForCausalLM.from_pretrained(MODELS / name, dtype=torch.float32)(**words).logits[:, -1]
            for name in ("tiny-gemma3", "tiny-gemma3-draft")
        ]
    likeliest = logits[0].topk(TOKENS).indices[0].sort().values
    return Pair(*(of[:, likeliest].clone() for of in logits))


@pytest.fixture
def random() -> torch.Generator:
    """Return the source of chance, from a fixed seed."""
    return torch.Generator().manual_seed(20)


def least(logits: Tensor, way: Truncation) -> Tensor:
    """Return the least logit that the way of sampling leaves, (1, 1)."""
    temperature, top_k, top_p = way
    values = {
        "target_logits": logits[None],
        "temperature": torch.tensor([temperature]),
        "top_k": torch.tensor([top_k]),
        "top_p": torch.tensor([top_p]),
    }
    return plain_samplers()(TRUNCATE, values)[0]


def probabilities(logits: Tensor, way: Truncation) -> Tensor:
    """Return (vocabulary,) float64 what is to be drawn by, by the definition."""
    kept = logits.masked_fill(logits < least(logits, way), -torch.inf)
    return torch.softmax(kept[0].double() / way[0], -1)


def chance(random: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=random, dtype=torch.float64)


def drawn(logits: Tensor, way: Truncation, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return tokens (rows,) and their probabilities (rows, vocabulary) as `sample` gives them."""
    values = {
        "logits": logits.expand(ROWS, -1),
        "least_logit": least(logits, way).expand(ROWS, 1),
        "temperature": torch.full((ROWS,), way[0]),
        "pick": chance(random, ROWS),
    }
    tokens, shares = plain_samplers()(SAMPLE, values)
    return tokens, shares


def counted(of: Callable[[], Tensor], vocabulary: int) -> Tensor:
    """Return how often each token came in all samples."""
    return sum((of().bincount(minlength=vocabulary) for _ in range(SAMPLES // ROWS)), torch.zeros(vocabulary))


def spoken(pair: Pair, way: Truncation, random: torch.Generator) -> Tensor:
    """Return the tokens (rows,) that come of one proposal each: it, or what is drawn in its place."""
    tokens, shares = drawn(pair.draft, way, random)
    values = {
        "proposed": torch.stack([tokens, tokens], dim=1),
        "proposals": torch.ones(ROWS, dtype=torch.int64),
        "target_logits": pair.main.expand(ROWS, 2, -1),
        "draft_probabilities": torch.stack([shares, shares], dim=1),
        "least_logits": least(pair.main, way).expand(ROWS, 2),
        "temperature": torch.full((ROWS,), way[0]),
        "coins": chance(random, ROWS, 2),
        "picks": chance(random, ROWS, 2),
    }
    accepted, following = plain_samplers(Acceptance(Strategy.RESIDUAL))(ACCEPT, values)
    return torch.where(accepted == 1, tokens, following)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_token_is_drawn_by_its_probability(pair: Pair, way: Truncation, random: torch.Generator) -> None:
    """Of 100,000 tokens each comes as often as it should, at any temperature, of the top k, and up to top p."""
    counts = counted(lambda: drawn(pair.main, way, random)[0], pair.main.shape[1])
    assert surprise(counts, probabilities(pair.main, way)) < ONCE_IN_A_MILLION
    # Power: what the draft would say instead would not be overlooked.
    assert surprise(counts, probabilities(pair.draft, way)) > CERTAIN


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_residual_leaves_the_main_models_distribution(pair: Pair, way: Truncation, random: torch.Generator) -> None:
    """What comes of proposals is distributed as what the main model draws by itself."""
    target, proposal = probabilities(pair.main, way), probabilities(pair.draft, way)
    refused = 1 - torch.minimum(target, proposal).sum()
    assert 0.02 < refused < 0.9, "proposals are to be taken and refused"
    counts = counted(lambda: spoken(pair, way, random), pair.main.shape[1])
    assert surprise(counts, target) < ONCE_IN_A_MILLION


def test_a_wrong_residual_is_found_out(pair: Pair, random: torch.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: to draw from p where a proposal was refused, as is easily written, does not pass."""
    way = WAYS[0]
    target, proposal = probabilities(pair.main, way), probabilities(pair.draft, way)
    wrong = torch.minimum(target, proposal)
    wrong = wrong + (1 - wrong.sum()) * target
    # Power: chi squared, which otherwise is spread by √(2 · TOKENS), moves by twenty times that.
    assert noncentrality(wrong, target, SAMPLES) > 20 * (2 * TOKENS) ** 0.5
    monkeypatch.setattr(module, "_residual", lambda values, target, accepted: target)
    counts = counted(lambda: spoken(pair, way, random), pair.main.shape[1])
    assert surprise(counts, target) > CERTAIN
    assert surprise(counts, wrong) < ONCE_IN_A_MILLION, "it is wrong in the way that was meant"


def test_a_wrong_acceptance_is_found_out(pair: Pair, random: torch.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: to take every proposal gives the draft's distribution, which does not pass."""
    way = WAYS[0]
    monkeypatch.setattr(module, "_judge", lambda values, *_: values["proposed"] >= 0)
    counts = counted(lambda: spoken(pair, way, random), pair.main.shape[1])
    assert surprise(counts, probabilities(pair.main, way)) > CERTAIN
    assert surprise(counts, probabilities(pair.draft, way)) < ONCE_IN_A_MILLION
