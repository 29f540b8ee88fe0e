"""Generate tokens, with or without a draft model.

Invariant: the draft never changes what is generated, only how fast. Each token is what the main model itself picks at
that place, so a seed gives the same text with and without a draft, up to rounding of the larger batches of positions.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from maxbuild.errors import UsageError
from maxbuild.runtime.model import Model

_PREFILL_CHUNK = 512
"""Tokens of a prompt that run at once; bounds the memory of a long prompt's attention scores."""


_LEAST_TEMPERATURE = 1e-5
"""Below it, scaled logits overflow; 0 is the limit, and means the likeliest token."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a token is picked from logits. temperature 0 takes the likeliest; top_k 0 and top_p 1 keep all tokens."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if self.temperature != 0 and not _LEAST_TEMPERATURE <= self.temperature < math.inf:
            raise UsageError(f"temperature {self.temperature} is neither 0 nor a number from {_LEAST_TEMPERATURE} up")
        if self.top_k < 0:
            raise UsageError(f"top_k {self.top_k} is below 0")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top_p {self.top_p} is not above 0 and at most 1")
        if not 0 <= self.seed < 1 << 63:
            raise UsageError(f"seed {self.seed} is not a number from 0 to 2^63 - 1")


@dataclass(slots=True)
class Statistics:
    """What a generation did; filled while it runs. Seconds are of the wall clock."""

    prompt_tokens: int = 0
    new_tokens: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    proposed: int = 0
    accepted: int = 0

    @property
    def tokens_per_second(self) -> float | None:
        """Return the speed after the first token, which belongs to the prompt."""
        return (self.new_tokens - 1) / self.decode_seconds if self.new_tokens > 1 and self.decode_seconds else None

    @property
    def acceptance_rate(self) -> float | None:
        """Return the share of the draft's judged tokens that the main model picked too; None without a draft."""
        return self.accepted / self.proposed if self.proposed else None


@dataclass(slots=True)
class Generation:
    """One prompt's generation: iterate `tokens`; `statistics` is whole when they end."""

    tokens: Iterator[int]
    statistics: Statistics = field(default_factory=Statistics)


class Picker:
    """Picks tokens from logits, each from the next state of one random stream."""

    def __init__(self, sampling: Sampling) -> None:
        """Start the stream at the seed."""
        self._sampling = sampling
        self._random = torch.Generator().manual_seed(sampling.seed)

    def picks(self, logits: Tensor) -> Iterator[int]:
        """Yield a token for each row of logits (places, vocabulary); the stream moves only for those taken."""
        if self._sampling.temperature == 0:
            yield from logits.argmax(dim=-1).tolist()
        else:
            yield from map(self._sample, logits)

    def pick(self, logits: Tensor) -> int:
        """Return a token given logits (1, vocabulary)."""
        return next(self.picks(logits))

    def _sample(self, logits: Tensor) -> int:
        scaled = _keep_likely(logits.float() / self._sampling.temperature, self._sampling.top_k, self._sampling.top_p)
        return int(torch.multinomial(torch.softmax(scaled, dim=-1), 1, generator=self._random))


def _keep_likely(logits: Tensor, top_k: int, top_p: float) -> Tensor:
    """Put -inf in place of logits outside of the top k, then outside of the smallest set with probability top_p."""
    if 0 < top_k < logits.shape[-1]:
        logits = logits.masked_fill(logits < logits.topk(top_k).values[-1], float("-inf"))
    if top_p < 1:
        ordered, order = logits.sort(descending=True)
        before = torch.softmax(ordered, dim=-1).cumsum(dim=-1).roll(1)
        before[0] = 0
        logits = logits.index_fill(0, order[before >= top_p], float("-inf"))
    return logits


class _Row:
    """One row of a model: its caches, and how many of the text's tokens they hold."""

    def __init__(self, model: Model, capacity: int) -> None:
        self._model = model
        self._caches = model.caches(1, capacity)
        self.held = 0

    def advance(self, tokens: Sequence[int], wanted: int) -> Tensor:
        """Run `tokens`, which follow those held, and return the logits (wanted, vocabulary) of the last `wanted`."""
        logits = None
        for start in range(0, len(tokens), _PREFILL_CHUNK):
            chunk = tokens[start : start + _PREFILL_CHUNK]
            count = min(wanted, len(chunk))
            positions = self._model.numbers[None, self.held : self.held + len(chunk)]
            rows = self._model.numbers[None, len(chunk) - count : len(chunk)]
            self.held += len(chunk)
            logits = self._model.forward(torch.tensor([chunk]), positions, rows, self._caches, self.held)
        assert logits is not None
        return logits[0]


def generate(
    main: Model,
    prompt: Sequence[int],
    max_new_tokens: int,
    *,
    stop_tokens: frozenset[int] = frozenset(),
    sampling: Sampling | None = None,
    draft: Model | None = None,
    num_speculative_tokens: int = 0,
) -> Generation:
    """Continue `prompt` by up to `max_new_tokens` tokens; a stop token ends the text and is not returned.

    draft: a model of the same vocabulary that proposes `num_speculative_tokens` tokens at a time. Raise UsageError
    where the prompt is empty or leaves no room before the model's longest row.
    """
    if not prompt:
        raise UsageError("the prompt has no tokens")
    if max_new_tokens < 1:
        raise UsageError(f"max_new_tokens is {max_new_tokens}, which generates nothing")
    longest = main.program.max_length
    if len(prompt) >= longest:
        raise UsageError(
            f"the prompt has {len(prompt)} tokens, the model's longest row {longest}",
            hint="shorten the prompt, or build with a larger `max_length`",
        )
    statistics = Statistics(prompt_tokens=len(prompt))
    length = min(longest, len(prompt) + max_new_tokens)
    picker = Picker(sampling or Sampling())
    if draft is not None and num_speculative_tokens > 0:
        raw = _speculate(main, draft, prompt, length, num_speculative_tokens, picker, statistics)
    else:
        raw = _decode(main, prompt, length, picker)
    return Generation(_until_stop(raw, stop_tokens, length - len(prompt), statistics), statistics)


def _until_stop(tokens: Iterator[int], stop: frozenset[int], limit: int, statistics: Statistics) -> Iterator[int]:
    """Count and time tokens, and end at a stop token or the limit."""
    started = time.perf_counter()
    for token in tokens:
        now = time.perf_counter()
        if statistics.new_tokens == 0:
            statistics.prefill_seconds, started = now - started, now
        statistics.new_tokens += 1
        statistics.decode_seconds = now - started if statistics.new_tokens > 1 else 0.0
        if token in stop:
            return
        yield token
        if statistics.new_tokens >= limit:
            return


def _decode(main: Model, prompt: Sequence[int], length: int, picker: Picker) -> Iterator[int]:
    """Generate one token per run of the main model."""
    row = _Row(main, length)
    pending = list(prompt)
    while row.held + len(pending) <= length:
        token = picker.pick(row.advance(pending, 1))
        yield token
        pending = [token]


def _speculate(
    main: Model,
    draft: Model,
    prompt: Sequence[int],
    length: int,
    proposals: int,
    picker: Picker,
    statistics: Statistics,
) -> Iterator[int]:
    """Let the draft propose tokens and the main model judge them in one run (Leviathan et al., arXiv 2211.17192).

    A proposal is kept if it is the token that the main model picks there; the first one that is not is replaced by that
    pick. Caches are not rolled back: what they hold beyond the text is overwritten before it is seen.
    """
    reach = min(length, draft.program.max_length)
    main_row, draft_row = _Row(main, length), _Row(draft, reach)
    text = list(prompt)
    text.append(picker.pick(main_row.advance(text, 1)))
    yield text[-1]
    while len(text) < length:
        count = max(0, min(proposals, length - len(text) - 1, reach - len(text), _PREFILL_CHUNK - 1))
        proposed = _propose(draft_row, text, count)
        logits = main_row.advance([text[-1], *proposed], count + 1)
        for token, proposal in zip(picker.picks(logits), [*proposed, None], strict=True):
            text.append(token)
            statistics.proposed += proposal is not None
            statistics.accepted += token == proposal
            yield token
            if token != proposal:
                break
        main_row.held = len(text) - 1
        draft_row.held = min(draft_row.held, len(text) - 1)


def _propose(row: _Row, text: Sequence[int], count: int) -> list[int]:
    """Return the `count` tokens that the draft thinks likeliest after `text`."""
    proposed: list[int] = []
    pending = list(text[row.held :])
    while len(proposed) < count:
        proposed.append(int(row.advance(pending, 1).argmax()))
        pending = proposed[-1:]
    return proposed
