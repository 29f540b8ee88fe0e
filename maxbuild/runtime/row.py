"""One row of a model: its caches, and how much of a text they hold."""

from __future__ import annotations

from torch import Tensor

from maxbuild.runtime.model import Model

PREFILL_CHUNK = 512
"""Tokens of a prompt that run at once; bounds the memory of a long prompt's attention scores."""


class Row:
    """One row of a model: its caches, and how many of the text's tokens they hold."""

    def __init__(self, model: Model, capacity: int) -> None:
        """Make room for `capacity` tokens."""
        self._model = model
        self._caches = model.caches(1, capacity)
        self.held = 0

    def read(self, text: Tensor, end: int, wanted: int) -> Tensor:
        """Run the tokens of `text` (1, length) before `end` that are not held yet.

        Return the logits (wanted, vocabulary) of the last `wanted` of them.
        """
        numbers = self._model.numbers
        logits = None
        for start in range(self.held, end, PREFILL_CHUNK):
            stop = min(start + PREFILL_CHUNK, end)
            length, count = stop - start, min(wanted, stop - start)
            positions, rows = numbers[None, start:stop], numbers[None, length - count : length]
            logits = self._model.forward(text[:, start:stop], positions, rows, self._caches, stop)
        self.held = end
        assert logits is not None
        return logits[0]


def told(tokens: Tensor) -> list[int]:
    """Bring tokens (count,) from the device, which is waited for."""
    brought: list[int] = tokens.cpu().tolist()
    return brought
