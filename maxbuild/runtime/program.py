"""The program of a component: which region runs when, on which values, with which weights and caches.

Invariant: a program is data alone. It names regions, weights and caches by string and holds no code and no path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from maxbuild.errors import PackageError

SCHEMA = "maxbuild.program.v1"

INPUTS = ("input_ids", "positions", "logit_positions", "key_positions")
"""The values every program starts from, all int64.

input_ids (batch, sequence): the new tokens. positions (batch, sequence): where each stands in its row.
logit_positions (batch, logits): which places of the sequence logits are wanted for.
key_positions (keys,): `arange(keys)`; how much of the caches attention looks at, at least every position + 1.
"""

OUTPUT = "logits"
"""The value a program ends with: (batch, logits, vocabulary)."""


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
    """How the regions of one component make logits out of tokens."""

    max_length: int
    vocab_size: int
    dtype: str
    caches: tuple[CacheSpec, ...]
    steps: tuple[Step, ...]

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
            )
        except (KeyError, TypeError, ValueError) as error:
            raise PackageError("the program is malformed", causes=[f"{type(error).__name__}: {error}"]) from error


def _names(value: Sequence[object]) -> tuple[str, ...]:
    return tuple(str(name) for name in value)
