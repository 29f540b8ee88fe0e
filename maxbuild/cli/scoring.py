"""What `run` tells of the prompt itself: its embedding, or how likely the model finds each of its tokens."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from maxbuild.report.documents import document

if TYPE_CHECKING:
    from maxbuild.runtime import LoadedPackage


def embedding_text(loaded: LoadedPackage, model: str, tokens: Sequence[int], *, as_document: bool) -> str:
    """Return the embedding of a text as a JSON array, or as a document with the number of its tokens.

    Where embeddings are not pooled there is one array for each token.
    """
    embedding = loaded.embed([tokens])[0].tolist()
    if as_document:
        return document("run", {"model": model, "prompt_tokens": len(tokens), "embedding": embedding})
    return json.dumps(embedding)


def echoed(loaded: LoadedPackage, tokens: Sequence[int]) -> list[dict[str, object]]:
    """Return for each token of a prompt its number, its text, and its log-probability, which the first one has not."""
    likely: list[float | None] = [None, *loaded.log_probabilities(tokens)]
    return [
        {"token": token, "text": loaded.text.decode([token]), "log_probability": value}
        for token, value in zip(tokens, likely, strict=True)
    ]


def perplexity(echo: Sequence[dict[str, object]]) -> float | None:
    """Return the perplexity of an echoed prompt; None for one of a single token."""
    values = [value for token in echo if isinstance(value := token["log_probability"], float)]
    return math.exp(-sum(values) / len(values)) if values else None
