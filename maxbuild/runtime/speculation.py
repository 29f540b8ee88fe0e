"""Speculative decoding: a draft proposes tokens, and the main model judges them in one run (arXiv 2211.17192).

Invariant: whatever the strategy, the text grows by the proposals that were accepted and by one token after them, of the
main model; neither text nor caches are rolled back, for what they hold beyond the text is overwritten before it is
seen. Per run of the main model tokens cross from the device once, and nothing goes there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from maxbuild.errors import UsageError
from maxbuild.runtime.model import Model
from maxbuild.runtime.row import PREFILL_CHUNK, Row, told
from maxbuild.runtime.samplers import ACCEPT, ACCEPT_GREEDY, Strategy
from maxbuild.runtime.sampling import Picker, Samplers, Use


class Markers(NamedTuple):
    """The tokens that begin and end a span of thinking."""

    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Speculation:
    """A draft and how it is used.

    draft: a model of the main model's tokens, on its device. samplers: with those that accept. markers: where
    proposals are accepted more freely within a span of thinking.
    """

    draft: Model
    num_speculative_tokens: int
    samplers: Samplers
    markers: Markers | None = None

    @property
    def strategy(self) -> Strategy:
        """Return how proposals are accepted."""
        if self.samplers.program.strategy is None:
            raise UsageError("the package's samplers accept no proposals")
        return self.samplers.program.strategy


@dataclass(slots=True)
class Acceptance:
    """How many proposals were made and accepted, by their place among those of a round: 0 is the first."""

    proposed_at: list[int] = field(default_factory=list)
    accepted_at: list[int] = field(default_factory=list)

    def count(self, proposed: int, accepted: int) -> None:
        """Count a round."""
        missing = proposed - len(self.proposed_at)
        self.proposed_at += [0] * missing
        self.accepted_at += [0] * missing
        for place in range(proposed):
            self.proposed_at[place] += 1
            self.accepted_at[place] += place < accepted

    @property
    def rates(self) -> tuple[float, ...]:
        """Return by place how often a proposal there was accepted; then all before it were too."""
        return tuple(accepted / proposed for accepted, proposed in zip(self.accepted_at, self.proposed_at, strict=True))


class _Proposals(NamedTuple):
    """What the draft proposes: tokens (count,), and for each what the strategy wants to know of it."""

    tokens: Tensor
    probabilities: list[Tensor]
    logits: list[Tensor]


class Round:
    """What is the same in all rounds of a text: how to propose, and how to judge."""

    def __init__(self, speculation: Speculation, picker: Picker) -> None:
        """Propose and judge as `speculation` says, with the random numbers of `picker`."""
        self._samplers, self._picker = speculation.samplers, picker
        self._sampler = ACCEPT_GREEDY if picker.is_greedy else ACCEPT
        self._wants_probabilities = self._samplers.wants(self._sampler, "draft_probabilities")
        self._wants_logits = self._samplers.wants(self._sampler, "draft_logits")
        self._draws = speculation.strategy.draws_proposals and not picker.is_greedy
        device = speculation.draft.device
        self._fixed: Mapping[str, Tensor] = {}
        if speculation.markers is not None:
            self._fixed = {"markers": torch.tensor(speculation.markers, device=device)}
            self._thinking = [torch.full((1,), state, device=device) for state in (False, True)]
        self._numbers = speculation.draft.numbers

    def propose(self, row: Row, text: Tensor, end: int, count: int, *, thinking: bool) -> _Proposals:
        """Write `count` tokens of the draft into `text` from `end` on, and return them.

        While it thinks they are the draft's likeliest: relaxed acceptance asks whether the main model thinks nearly as
        well of them, which says something of what the draft believes, and nothing of what it drew by chance.
        """
        proposals = _Proposals(text.new_empty(0), [], [])
        for place in range(end, end + count):
            logits = row.read(text, place, 1)
            if self._draws and (self._wants_probabilities or not thinking):
                token, probabilities = self._picker.propose(logits, place, best=thinking)
                proposals.probabilities.append(probabilities)
            else:
                token = logits.argmax(dim=-1)
            if self._wants_logits:
                proposals.logits.append(logits.float().gather(1, token[:, None])[:, 0])
            text[0, place : place + 1] = token
        return proposals._replace(tokens=text[0, end : end + count].clone())

    def judge(
        self, proposals: _Proposals, logits: Tensor, text: Tensor, end: int, *, thinking: bool
    ) -> tuple[Tensor, Tensor]:
        """Return how many of the proposals from `end` on stay, and the token after them, both (1,).

        logits: the main model's (count + 1, vocabulary), of the places of the proposals and the one after them.
        """
        width = len(logits)
        target = logits[None].float()
        # The last place has no proposal; what stands there instead is not looked at.
        values = {
            **self._fixed,
            "proposed": text[:, end : end + width],
            "proposals": self._numbers[width - 1 : width],
            "target_logits": target,
        }
        if self._wants_probabilities:
            rows = proposals.probabilities
            values["draft_probabilities"] = torch.stack([*rows, rows[-1]], dim=1)
        if self._wants_logits:
            values["draft_logits"] = torch.stack([*proposals.logits, proposals.logits[-1]], dim=1)
        if self._samplers.wants(self._sampler, "coins"):
            values["coins"] = self._picker.numbers(Use.COIN, end, width)
        if self._fixed:
            values["thinking"] = self._thinking[thinking]
        if not self._picker.is_greedy:
            values["least_logits"] = self._picker.least_logits(target)
            values["temperature"] = self._picker.temperature
            values["picks"] = self._picker.numbers(Use.PICK, end, width)
        accepted, following = self._samplers(self._sampler, values)
        return accepted, following


class Thinking:
    """Whether a text is within a span of thinking, as its tokens come."""

    def __init__(self, markers: Markers | None, prompt: list[int]) -> None:
        """Begin with the prompt, which may have begun a span."""
        self._markers = markers
        self.now = False
        for token in prompt if markers else ():
            self.see(token)

    def see(self, token: int) -> None:
        """Take the next token."""
        if self._markers is not None and token in self._markers:
            self.now = token == self._markers.begin


def speculate(
    main: Model, speculation: Speculation, text: Tensor, prompt: list[int], picker: Picker, acceptance: Acceptance
) -> Iterator[int]:
    """Fill `text` (1, length) after the prompt, and yield what is filled in; `acceptance` is counted on the way.

    Where the text is longer than the draft's longest row, the main model goes on by itself.
    """
    end, length = len(prompt), text.shape[1]
    reach = min(length, speculation.draft.program.max_length)
    main_row, draft_row = Row(main, length), Row(speculation.draft, reach, main.program.vocab_size)
    rounds, thinking = Round(speculation, picker), Thinking(speculation.markers, prompt)
    most = min(speculation.num_speculative_tokens, PREFILL_CHUNK - 1)
    # Nothing is proposed for the first token: the prompt has to be run for it in any case.
    count = 0
    while end < length:
        if count:
            proposals = rounds.propose(draft_row, text, end, count, thinking=thinking.now)
            logits = main_row.read(text, end + count, count + 1)
            accepted, following = rounds.judge(proposals, logits, text, end, thinking=thinking.now)
            text.scatter_(1, (end + accepted)[:, None], following[:, None])
            stayed, token, *tokens = told(torch.cat([accepted, following, proposals.tokens]))
            acceptance.count(count, stayed)
            new = [*tokens[:stayed], token]
        else:
            picked = picker.pick(main_row.read(text, end, 1), end)
            text[0, end : end + 1] = picked
            new = told(picked)
        end += len(new)
        for token in new:
            thinking.see(token)
            yield token
        # The last token is not held, nor what was refused.
        main_row.held = end - 1
        draft_row.held = min(draft_row.held, end - 1)
        count = max(0, min(most, length - end - 1, reach - end))
