"""Run one component: its regions as compiled code, its weights mapped from their files, its caches as plain tensors.

Invariant: a forward pass changes nothing but the caches it is given.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from maxbuild.errors import PackageError
from maxbuild.runtime.package import ComponentEntry
from maxbuild.runtime.program import INPUTS, OUTPUT, Program, Step

WEIGHTS_SCHEMA = "maxbuild.weights.v1"


class Region:
    """One compiled region, called with its values, caches and weights in order."""

    def __init__(self, path: Path) -> None:
        """Load the artifact; raise PackageError where torch cannot."""
        try:
            self._loader = torch._C._aoti.AOTIModelPackageLoader(str(path), "model", True, 1, -1)
        except RuntimeError as error:
            first = str(error).strip().partition("\n")[0]
            raise PackageError(f"could not load the compiled region `{path.name}`", causes=[first]) from error

    def __call__(self, inputs: list[Tensor]) -> Sequence[Tensor]:
        """Return the outputs. `inputs` are dense tensors; the list is emptied."""
        outputs: Sequence[Tensor] = self._loader.boxed_run(inputs)
        return outputs


class Caches:
    """Key and value caches of a batch of rows, each (batch, heads, capacity, size)."""

    def __init__(self, program: Program, batch: int, capacity: int) -> None:
        """Allocate caches for `batch` rows of up to `capacity` tokens."""
        self.capacity = capacity
        self.tensors: Mapping[str, Tensor] = {
            spec.name: torch.zeros(batch, spec.heads, capacity, spec.size, dtype=getattr(torch, spec.dtype))
            for spec in program.caches
        }


@dataclass(frozen=True, slots=True)
class _BoundStep:
    region: Any
    step: Step
    weights: tuple[Tensor, ...]


class Model:
    """One component, ready to run."""

    def __init__(self, program: Program, regions: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        """Bind `program` to callables for its regions and tensors for its weights."""
        self.program = program
        self._steps = [
            _BoundStep(regions[step.region], step, tuple(weights[name] for name in step.weights))
            for step in program.steps
        ]
        self._arange = torch.arange(program.max_length)

    @classmethod
    def load(cls, folder: Path, entry: ComponentEntry) -> Model:
        """Load a component of the package in `folder`, whose files have been checked."""
        program = Program.from_json(json.loads((folder / entry.program).read_bytes()))
        weights = read_weights(folder / entry.weights, program)
        missing = [name for name in program.regions if name not in entry.regions]
        if missing:
            raise PackageError(f"the package has no region `{missing[0]}`")
        regions = {path: Region(folder / path) for path in sorted(set(entry.regions.values()))}
        return cls(program, {name: regions[path] for name, path in entry.regions.items()}, weights)

    def caches(self, batch: int, capacity: int | None = None) -> Caches:
        """Return empty caches for `batch` rows of up to `capacity` tokens (default: the model's longest)."""
        return Caches(self.program, batch, min(capacity or self.program.max_length, self.program.max_length))

    @torch.inference_mode()
    def forward(self, input_ids: Tensor, positions: Tensor, logit_positions: Tensor, caches: Caches, keys: int) -> Tensor:
        """Run the new tokens and return logits (batch, logits, vocabulary).

        input_ids, positions: int64 (batch, sequence). logit_positions: int64 (batch, logits), indices into the
        sequence. keys: how much of the caches attention looks at; more than every position.
        """
        inputs = (input_ids.contiguous(), positions.contiguous(), logit_positions.contiguous(), self._arange[:keys])
        values: dict[str, Tensor] = dict(zip(INPUTS, inputs, strict=True))
        for bound in self._steps:
            step = bound.step
            arguments = [values[name] for name in step.values]
            arguments += [caches.tensors[name] for name in step.caches]
            arguments += bound.weights
            values.update(zip(step.outputs, bound.region(arguments), strict=True))
        return values[OUTPUT]


def read_weights(index: Path, program: Program) -> dict[str, Tensor]:
    """Map the tensors that `program` names, as the weight index says; nothing is copied."""
    document = json.loads(index.read_bytes())
    if document.get("schema") != WEIGHTS_SCHEMA:
        raise PackageError(f"the weight index has schema {document.get('schema')!r}, not {WEIGHTS_SCHEMA!r}")
    places = document["tensors"]
    by_file: dict[str, list[str]] = {}
    for name in program.weights:
        if name not in places:
            raise PackageError(f"the package has no weight `{name}`, which its program names")
        by_file.setdefault(places[name]["file"], []).append(name)
    weights = {}
    for file, names in by_file.items():
        with safe_open(index.parent / "weights" / file, framework="pt") as reader:
            weights.update({name: reader.get_tensor(places[name]["tensor"]) for name in names})
    return weights
