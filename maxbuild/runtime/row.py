"""One row of a model: its caches, and how much of a text they hold."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional

from maxbuild.runtime.model import Model

PREFILL_CHUNK = 512
"""Tokens of a prompt that run at once; bounds the memory of a long prompt's attention scores."""


class Row:
    """One row of a model: its caches, and how many of the text's tokens they hold."""

    def __init__(self, model: Model, capacity: int, vocabulary: int | None = None) -> None:
        """Make room for `capacity` tokens.

        vocabulary: how many tokens the text is made of, where that is not the model's own number. Of tokens that the
        model does not have it reads its last one, and such tokens are impossible by its logits.
        """
        self._model = model
        own = model.program.vocab_size
        self._vocabulary = None if vocabulary in {None, own} else vocabulary
        self._last_token = own - 1
        self._caches = model.caches(1, capacity)
        self.held = 0

    def read(self, text: Tensor, end: int, wanted: int) -> Tensor:
        """Run the tokens of `text` (1, length) before `end` that are not held yet.

        Return the logits (wanted, vocabulary) of the last `wanted` of them.
        """
        if self._vocabulary is not None:
            text = text.clamp(max=self._last_token)
        numbers = self._model.numbers
        logits = None
        for start in range(self.held, end, PREFILL_CHUNK):
            stop = min(start + PREFILL_CHUNK, end)
            length, count = stop - start, min(wanted, stop - start)
            positions, rows = numbers[None, start:stop], numbers[None, length - count : length]
            logits = self._model.forward(text[:, start:stop], positions, rows, self._caches, stop)
        self.held = end
        assert logits is not None
        return logits[0] if self._vocabulary is None else _widened(logits[0], self._vocabulary)


def _widened(logits: Tensor, vocabulary: int) -> Tensor:
    """Return logits (rows, own) as (rows, vocabulary): cut, or filled up with -inf."""
    return functional.pad(logits, (0, vocabulary - logits.shape[-1]), value=-math.inf)


def told(tokens: Tensor) -> list[int]:
    """Bring tokens (count,) from the device, which is waited for."""
    brought: list[int] = tokens.cpu().tolist()
    return brought
