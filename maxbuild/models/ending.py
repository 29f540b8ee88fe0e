"""What a program ends with: decided by what the model is, and by the options that ask for logits or embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maxbuild.errors import UnsupportedModel
from maxbuild.models.pooling import read_pooling
from maxbuild.runtime.program import Pooling, Results


def choose_ending(
    options: Mapping[str, Any], pooling_files: Mapping[str, Path], *, embedding: bool
) -> tuple[Results, Pooling | None]:
    """Return what a program ends with and, where it makes one embedding of a row, how.

    options: by name, those that are set: `pool_embeddings`, `enable_echo`, and under `sampling`
    `enable_variable_logits`. pooling_files: as `read_pooling` takes them. embedding: whether the model has no output
    embedding. Raise UnsupportedModel for an option that has nothing to act on.
    """
    pools = options.get("pool_embeddings")
    echo = bool(options.get("enable_echo"))
    ragged = bool(options.get("sampling", {}).get("enable_variable_logits"))
    if embedding:
        for name, wanted in (("enable_echo", echo), ("enable_variable_logits", ragged)):
            if wanted:
                raise UnsupportedModel(f"`{name}` asks for logits, and an embedding model has none")
        return Results.EMBEDDING, None if pools is False else read_pooling(pooling_files)
    if pools is not None:
        raise UnsupportedModel(
            "`pool_embeddings` is set, but the model is a language model",
            hint="an embedding model has `modules.json`, or a class without an output embedding in config.json",
        )
    # Where every token's logits are given, a row can have any number of them.
    if echo:
        return Results.EVERY, None
    return Results.RAGGED if ragged else Results.CHOSEN, None
