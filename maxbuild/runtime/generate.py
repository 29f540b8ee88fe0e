"""Generate tokens, with or without a draft model.

Invariant: the draft never changes what is generated, only how fast. Each token is what the main model itself picks at
that place, so a seed gives the same text with and without a draft, up to rounding of the larger batches of positions.
The text lives on the models' device; what comes from there is the tokens that were picked, once per run of the main
model, and nothing goes there but the prompt.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from maxbuild.errors import UsageError
from maxbuild.runtime.model import Model

_CPU = torch.device("cpu")

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
    """Picks tokens from logits, where these lie. Chance gives a place what the seed says, whatever came before it."""

    def __init__(self, sampling: Sampling, device: torch.device = _CPU) -> None:
        """Pick on `device`; kinds of devices make other random numbers of the same seed."""
        self._sampling = sampling
        self._random = torch.Generator(device) if sampling.temperature else None

    def pick(self, logits: Tensor, place: int) -> Tensor:
        """Return tokens (rows,) for logits (rows, vocabulary), of `place` in the text and those that follow it."""
        if self._random is None:
            return logits.argmax(dim=-1)
        return torch.stack([self._sample(row, place + offset) for offset, row in enumerate(logits)])

    def _sample(self, logits: Tensor, place: int) -> Tensor:
        assert self._random is not None
        scaled = keep_likely(logits.float() / self._sampling.temperature, self._sampling.top_k, self._sampling.top_p)
        chances = torch.softmax(scaled, dim=-1)
        # As torch.multinomial draws one sample, less its checks, which wait for the device (`multinomial` in
        # aten/src/ATen/native/Distributions.cpp): of exponential waits the shortest, each divided by its chance.
        waits = torch.empty_like(chances).exponential_(generator=self._random.manual_seed(self._seed(place)))
        return (chances / waits).argmax(dim=-1)

    def _seed(self, place: int) -> int:
        # A hash, so that near places have seeds far apart also in the 32 bits that a CPU's generator looks at.
        digest = hashlib.blake2b(b"%d/%d" % (self._sampling.seed, place), digest_size=8)
        return int.from_bytes(digest.digest(), "little") >> 1


def keep_likely(logits: Tensor, top_k: int, top_p: float) -> Tensor:
    """Put -inf in place of logits outside of the top k, then outside of the smallest set with probability top_p."""
    if 0 < top_k < logits.shape[-1]:
        logits = logits.masked_fill(logits < logits.topk(top_k).values[-1], float("-inf"))
    if top_p < 1:
        ordered, order = logits.sort(descending=True)
        before = torch.softmax(ordered, dim=-1).cumsum(dim=-1).roll(1)
        before[0] = 0
        # By a mask: a list of indices has a length, for which a device would have to be waited for.
        outside = torch.empty_like(before, dtype=torch.bool).scatter_(0, order, before >= top_p)
        logits = logits.masked_fill(outside, float("-inf"))
    return logits


class _Row:
    """One row of a model: its caches, and how many of the text's tokens they hold."""

    def __init__(self, model: Model, capacity: int) -> None:
        self._model = model
        self._caches = model.caches(1, capacity)
        self.held = 0

    def read(self, text: Tensor, end: int, wanted: int) -> Tensor:
        """Run the tokens of `text` (1, length) before `end` that are not held yet.

        Return the logits (wanted, vocabulary) of the last `wanted` of them.
        """
        numbers = self._model.numbers
        logits = None
        for start in range(self.held, end, _PREFILL_CHUNK):
            stop = min(start + _PREFILL_CHUNK, end)
            length, count = stop - start, min(wanted, stop - start)
            positions, rows = numbers[None, start:stop], numbers[None, length - count : length]
            logits = self._model.forward(text[:, start:stop], positions, rows, self._caches, stop)
        self.held = end
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

    draft: a model of the same vocabulary, on the same device, that proposes `num_speculative_tokens` tokens at a time.
    Raise UsageError where the prompt is empty or leaves no room before the model's longest row.
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
    picker = Picker(sampling or Sampling(), main.device)
    text = torch.zeros(1, length, dtype=torch.int64, device=main.device)
    text[0, : len(prompt)] = torch.tensor(prompt)
    if draft is not None and num_speculative_tokens > 0:
        raw = _speculate(main, draft, text, len(prompt), num_speculative_tokens, picker, statistics)
    else:
        raw = _decode(main, text, len(prompt), picker)
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


def _decode(main: Model, text: Tensor, end: int, picker: Picker) -> Iterator[int]:
    """Fill `text` (1, length) from `end` on, and yield what is filled in: one token per run of the main model."""
    row = _Row(main, text.shape[1])
    for place in range(end, text.shape[1]):
        picked = picker.pick(row.read(text, place, 1), place)
        text[0, place : place + 1] = picked
        yield from _told(picked)


def _speculate(
    main: Model,
    draft: Model,
    text: Tensor,
    end: int,
    proposals: int,
    picker: Picker,
    statistics: Statistics,
) -> Iterator[int]:
    """Let the draft propose tokens and the main model judge them in one run (Leviathan et al., arXiv 2211.17192).

    A proposal is kept if it is the token that the main model picks there; the first one that is not is replaced by that
    pick. Neither text nor caches are rolled back: what they hold beyond `end` is overwritten before it is seen.
    """
    length = text.shape[1]
    reach = min(length, draft.program.max_length)
    main_row, draft_row = _Row(main, length), _Row(draft, reach)
    # Nothing is proposed for the first token: the prompt has to be run for it in any case.
    count = 0
    while end < length:
        proposed = _propose(draft_row, text, end, count)
        picked = picker.pick(main_row.read(text, end + count, count + 1), end)
        text[0, end : end + count + 1] = picked
        told = _told(torch.cat([picked, proposed]))
        for token, proposal in zip(told[: count + 1], [*told[count + 1 :], None], strict=True):
            end += 1
            statistics.proposed += proposal is not None
            statistics.accepted += token == proposal
            yield token
            if token != proposal:
                break
        main_row.held = end - 1
        draft_row.held = min(draft_row.held, end - 1)
        count = max(0, min(proposals, length - end - 1, reach - end, _PREFILL_CHUNK - 1))


def _propose(row: _Row, text: Tensor, end: int, count: int) -> Tensor:
    """Write the `count` tokens that the draft thinks likeliest into `text` from `end` on, and return a copy of them."""
    for place in range(end, end + count):
        text[0, place : place + 1] = row.read(text, place, 1).argmax(dim=-1)
    return text[0, end : end + count].clone()


def _told(tokens: Tensor) -> list[int]:
    """Bring tokens (count,) from the device, which is waited for."""
    told: list[int] = tokens.cpu().tolist()
    return told
