"""Generate tokens, with or without a draft model.

The text lives on the models' device; what comes from there is the tokens that were picked, once per run of the main
model, and nothing goes there but the prompt and, where tokens are drawn, the random numbers of the whole text.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from maxbuild.errors import UsageError
from maxbuild.runtime.model import Model
from maxbuild.runtime.row import Row, told
from maxbuild.runtime.samplers import Strategy
from maxbuild.runtime.sampling import Picker, Samplers, Sampling
from maxbuild.runtime.speculation import Acceptance, Speculation, speculate


@dataclass(slots=True)
class Statistics:
    """What a generation did; filled while it runs. Seconds are of the wall clock."""

    prompt_tokens: int = 0
    new_tokens: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    acceptance: Acceptance = field(default_factory=Acceptance)

    @property
    def tokens_per_second(self) -> float | None:
        """Return the speed after the first token, which belongs to the prompt."""
        return (self.new_tokens - 1) / self.decode_seconds if self.new_tokens > 1 and self.decode_seconds else None

    @property
    def proposed(self) -> int:
        """Return how many tokens the draft proposed."""
        return sum(self.acceptance.proposed_at)

    @property
    def accepted(self) -> int:
        """Return how many of these were accepted."""
        return sum(self.acceptance.accepted_at)

    @property
    def acceptance_rate(self) -> float | None:
        """Return the share of the draft's tokens that were accepted; None where it proposed none."""
        return self.accepted / self.proposed if self.proposed else None


@dataclass(slots=True)
class Generation:
    """One prompt's generation: iterate `tokens`; `statistics` is whole when they end."""

    tokens: Iterator[int]
    statistics: Statistics = field(default_factory=Statistics)


def generate(
    main: Model,
    prompt: Sequence[int],
    max_new_tokens: int,
    *,
    stop_tokens: frozenset[int] = frozenset(),
    sampling: Sampling | None = None,
    samplers: Samplers | None = None,
    speculation: Speculation | None = None,
) -> Generation:
    """Continue `prompt` by up to `max_new_tokens` tokens; a stop token ends the text and is not returned.

    samplers: on the model's device, needed where tokens are drawn. speculation: a draft that proposes tokens. Raise
    UsageError where the prompt is empty or leaves no room before the model's longest row.
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
    synthetic = speculation is not None and speculation.strategy is Strategy.SYNTHETIC
    picker = Picker(sampling or Sampling(), length, samplers=samplers, device=main.device, needs_chance=synthetic)
    text = torch.zeros(1, length, dtype=torch.int64, device=main.device)
    text[0, : len(prompt)] = torch.tensor(prompt)
    if speculation is not None:
        raw = speculate(main, speculation, text, list(prompt), picker, statistics.acceptance)
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
    row = Row(main, text.shape[1])
    for place in range(end, text.shape[1]):
        picked = picker.pick(row.read(text, place, 1), place)
        text[0, place : place + 1] = picked
        yield from told(picked)
