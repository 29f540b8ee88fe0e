"""What a model says of text that is given: how likely each of its tokens is, or vectors for whole texts.

Invariant: what comes from the device is the result, once; nothing is picked and nothing is generated.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from maxbuild.errors import UsageError
from maxbuild.runtime.model import Model

_CHUNK = 128
"""Tokens whose logits are there at once: of a vocabulary of 262144 tokens they take 128 MiB in float32."""


def log_probabilities(model: Model, tokens: Sequence[int]) -> list[float]:
    """Return the natural logarithm of each token's probability after those before it, for all tokens but the first.

    Raise UsageError for a text that is empty or longer than the model's longest row, and where the package was built
    without `enable_echo`.
    """
    _check_length(model, tokens)
    text = torch.tensor([tokens], device=model.device)
    caches = model.caches(1, len(tokens))
    found: list[Tensor] = []
    for start in range(0, len(tokens) - 1, _CHUNK):
        stop = min(start + _CHUNK, len(tokens) - 1)
        logits = model.forward_every(text[:, start:stop], model.numbers[None, start:stop], caches, stop)[0]
        following = text[0, start + 1 : stop + 1, None]
        found.append(torch.log_softmax(logits.float(), dim=-1).gather(1, following)[:, 0])
    values: list[float] = torch.cat(found).tolist() if found else []
    return values


def embed(model: Model, rows: Sequence[Sequence[int]]) -> list[Tensor]:
    """Return an embedding of each row of tokens, float32 on the CPU: (size,), or (tokens, size) where none are pooled.

    The rows run in one batch. Raise UsageError for a row that is empty or longer than the model's longest, and where
    the package holds no embedding model.
    """
    for row in rows:
        _check_length(model, row)
    if not rows:
        return []
    lengths = torch.tensor([len(row) for row in rows], device=model.device)
    tokens = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
    for place, row in enumerate(rows):
        tokens[place, : len(row)] = torch.tensor(row)
    embeddings = model.forward_embedding(tokens.to(model.device), lengths).cpu()
    if model.program.pooling is None:
        return [vectors[: len(row)] for vectors, row in zip(embeddings, rows, strict=True)]
    return list(embeddings)


def _check_length(model: Model, tokens: Sequence[int]) -> None:
    longest = model.program.max_length
    if not tokens:
        raise UsageError("the text has no tokens")
    if len(tokens) > longest:
        raise UsageError(
            f"the text has {len(tokens)} tokens, the model's longest row {longest}",
            hint="shorten the text, or build with a larger `max_length`",
        )
