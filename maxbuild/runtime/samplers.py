"""The samplers of a package: which regions pick tokens, on which values, and by which strategy proposals are accepted.

Invariant: data alone. What a region computes is in its compiled code; here it has a name, inputs and outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from maxbuild.errors import PackageError

SCHEMA = "maxbuild.samplers.v1"

TRUNCATE, SAMPLE, ACCEPT, ACCEPT_GREEDY = "truncate", "sample", "accept", "accept.greedy"
"""The names of the regions: what top-k and top-p leave, a token by chance, and which proposals stay: `accept` at any
temperature, `accept.greedy` at temperature 0 alone, where chance has no part and less is to be computed."""


class Strategy(StrEnum):
    """How proposed tokens are accepted. What each computes is told in docs/speculation.md."""

    GREEDY = "greedy"
    RESIDUAL = "residual"
    TYPICAL_ACCEPTANCE = "typical-acceptance"
    LOGIT_COMPARISON = "logit-comparison"
    SYNTHETIC = "synthetic"
    """For measurements: at a given rate, whatever the models think."""

    @property
    def draws_proposals(self) -> bool:
        """Tell whether the draft draws its proposals by chance, where a temperature is asked for, or takes its best."""
        return self in {Strategy.RESIDUAL, Strategy.TYPICAL_ACCEPTANCE, Strategy.LOGIT_COMPARISON}


@dataclass(frozen=True, slots=True)
class SamplerCall:
    """How a region is called: `region(*values) -> outputs`, both by the names that docs/package-format.md explains."""

    values: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SamplerProgram:
    """The samplers' regions by name, and the strategy of those that accept; None where there is no draft."""

    strategy: Strategy | None
    calls: Mapping[str, SamplerCall]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, from which `from_json` makes an equal program."""
        return {
            "schema": SCHEMA,
            "strategy": None if self.strategy is None else self.strategy.value,
            "regions": {
                name: {"values": list(call.values), "outputs": list(call.outputs)} for name, call in self.calls.items()
            },
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read the JSON form; raise PackageError where this version does not understand it."""
        schema = document.get("schema")
        if schema != SCHEMA:
            raise PackageError(f"the samplers' schema is {schema!r}, this version reads {SCHEMA!r}")
        try:
            strategy = document["strategy"]
            return cls(
                strategy=None if strategy is None else Strategy(strategy),
                calls={
                    str(name): SamplerCall(tuple(map(str, call["values"])), tuple(map(str, call["outputs"])))
                    for name, call in document["regions"].items()
                },
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PackageError("the samplers are malformed", causes=[f"{type(error).__name__}: {error}"]) from error
