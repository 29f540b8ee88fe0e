"""The program of a component: which region runs when, on which values, with which weights and caches.

Invariant: a program is data alone. It names regions, weights and caches by string and holds no code and no path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from maxbuild.errors import PackageError

SCHEMA = "maxbuild.program.v1"


class Results(StrEnum):
    """What a program ends with: logits of which tokens, or one vector for each row."""

    CHOSEN = "chosen"
    """`logits` (batch, logits, vocabulary): as many for each row, of the tokens that `logit_positions` names."""
    RAGGED = "ragged"
    """`logits` (logits, vocabulary): of the tokens that `logit_rows` and `logit_positions` name, in their order."""
    EVERY = "every"
    """`logits` (batch, sequence, vocabulary): of every token."""
    EMBEDDING = "embedding"
    """`embeddings`, float32: (batch, size) where they are pooled, of whole rows, which end after `lengths` tokens;
    else (batch, sequence, size), of every token."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Return the names of the values that a program starts from, all int64.

        input_ids (batch, sequence): the new tokens. positions (batch, sequence): where each stands in its row.
        logit_positions (batch, logits), or with logit_rows (logits,): places of the sequence that logits are wanted
        for. lengths (batch,): how many tokens each row has. key_positions (keys,): `arange(keys)`; how much of the
        caches attention looks at, at least every position + 1.
        """
        return ("input_ids", "positions", *_OWN_INPUTS[self], "key_positions")

    @property
    def output(self) -> str:
        """Return the name of the value that a program ends with."""
        return "embeddings" if self is Results.EMBEDDING else "logits"


_OWN_INPUTS: Mapping[Results, tuple[str, ...]] = {
    Results.CHOSEN: ("logit_positions",),
    Results.RAGGED: ("logit_rows", "logit_positions"),
    Results.EVERY: (),
    Results.EMBEDDING: ("lengths",),
}


class PoolingMode(StrEnum):
    """How the vectors of a row's tokens become one."""

    FIRST = "first"
    LAST = "last"
    MEAN = "mean"


@dataclass(frozen=True, slots=True)
class Pooling:
    """How a program makes one vector of a row; normalized: divided by its Euclidean length."""

    mode: PoolingMode
    normalized: bool

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"mode": self.mode.value, "normalized": self.normalized}


@dataclass(frozen=True, slots=True)
class CacheSpec:
    """One key or value cache, allocated by the runtime as (batch, heads, cache length, size)."""

    name: str
    heads: int
    size: int
    dtype: str

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"name": self.name, "heads": self.heads, "size": self.size, "dtype": self.dtype}


@dataclass(frozen=True, slots=True)
class Step:
    """One call of a region: `region(*values, *caches, *weights) -> outputs`."""

    region: str
    values: tuple[str, ...]
    caches: tuple[str, ...]
    weights: tuple[str, ...]
    outputs: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "region": self.region,
            "values": list(self.values),
            "caches": list(self.caches),
            "weights": list(self.weights),
            "outputs": list(self.outputs),
        }


@dataclass(frozen=True, slots=True)
class Program:
    """How the regions of one component make logits out of tokens, or vectors out of rows of tokens."""

    max_length: int
    vocab_size: int
    dtype: str
    caches: tuple[CacheSpec, ...]
    steps: tuple[Step, ...]
    results: Results = Results.CHOSEN
    pooling: Pooling | None = None
    """Of embeddings alone; None: they are not pooled."""

    @property
    def regions(self) -> tuple[str, ...]:
        """Return the names of the regions, in the order of first use."""
        return tuple(dict.fromkeys(step.region for step in self.steps))

    @property
    def weights(self) -> tuple[str, ...]:
        """Return the names of all weights, in the order of first use."""
        return tuple(dict.fromkeys(name for step in self.steps for name in step.weights))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, from which `from_json` makes an equal program."""
        return {
            "schema": SCHEMA,
            "max_length": self.max_length,
            "vocab_size": self.vocab_size,
            "dtype": self.dtype,
            "results": self.results.value,
            "pooling": None if self.pooling is None else self.pooling.to_json(),
            "caches": [cache.to_json() for cache in self.caches],
            "steps": [step.to_json() for step in self.steps],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read the JSON form; raise PackageError when it is not a program this version understands."""
        schema = document.get("schema")
        if schema != SCHEMA:
            raise PackageError(f"the program's schema is {schema!r}, this version reads {SCHEMA!r}")
        try:
            return cls(
                max_length=int(document["max_length"]),
                vocab_size=int(document["vocab_size"]),
                dtype=str(document["dtype"]),
                caches=tuple(
                    CacheSpec(str(c["name"]), int(c["heads"]), int(c["size"]), str(c["dtype"]))
                    for c in document["caches"]
                ),
                steps=tuple(
                    Step(
                        str(s["region"]),
                        _names(s["values"]),
                        _names(s["caches"]),
                        _names(s["weights"]),
                        _names(s["outputs"]),
                    )
                    for s in document["steps"]
                ),
                results=Results(document["results"]),
                pooling=_pooling(document["pooling"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise PackageError("the program is malformed", causes=[f"{type(error).__name__}: {error}"]) from error


def _pooling(document: Mapping[str, Any] | None) -> Pooling | None:
    return None if document is None else Pooling(PoolingMode(document["mode"]), bool(document["normalized"]))


def _names(value: Sequence[object]) -> tuple[str, ...]:
    return tuple(str(name) for name in value)
