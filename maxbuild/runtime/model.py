"""Run one component: its regions as compiled code, its weights mapped from their files, its caches as plain tensors.

Invariant: a forward pass changes nothing but the caches it is given.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from maxbuild.errors import PackageError
from maxbuild.runtime.package import PackageHeader
from maxbuild.runtime.program import INPUTS, OUTPUT, Program, Step

WEIGHTS_SCHEMA = "maxbuild.weights.v1"


RegionCall = Callable[[list[Tensor]], Sequence[Tensor]]
"""A region as it is called: the list of its inputs, dense and in order, which the call may empty."""


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
        self.tensors: Mapping[str, Tensor] = {
            spec.name: torch.zeros(batch, spec.heads, capacity, spec.size, dtype=getattr(torch, spec.dtype))
            for spec in program.caches
        }


@dataclass(frozen=True, slots=True)
class _BoundStep:
    region: RegionCall
    step: Step
    weights: tuple[Tensor, ...]


class Model:
    """One component, ready to run."""

    def __init__(self, program: Program, regions: Mapping[str, RegionCall], weights: Mapping[str, Tensor]) -> None:
        """Bind `program` to callables for its regions and tensors for its weights."""
        self.program = program
        self._regions, self._weights = regions, weights
        self._steps = [
            _BoundStep(regions[step.region], step, tuple(weights[name] for name in step.weights))
            for step in program.steps
        ]
        self.numbers = torch.arange(program.max_length)
        """0, 1, 2 … up to the longest row, int64: positions are slices of it."""

    @classmethod
    def load(cls, folder: Path, header: PackageHeader, role: str) -> Model:
        """Load a component of the package in `folder`, whose files have been checked; PackageError where it cannot."""
        entry = header.components[role]
        program = Program.from_json(json.loads((folder / entry.program).read_bytes()))
        weights = read_tensors(folder, header, role, program.weights)
        missing = [name for name in program.regions if name not in entry.regions]
        if missing:
            raise PackageError(f"the package has no region `{missing[0]}`")
        regions = {path: Region(folder / path) for path in sorted(set(entry.regions.values()))}
        return cls(program, {name: regions[path] for name, path in entry.regions.items()}, weights)

    def with_regions(self, replace: Callable[[str, RegionCall], RegionCall]) -> Model:
        """Return a model of the same program and weights with each region replaced by what `replace` makes of it."""
        regions = {name: replace(name, self._regions[name]) for name in self.program.regions}
        return Model(self.program, regions, self._weights)

    def caches(self, batch: int, capacity: int | None = None) -> Caches:
        """Return empty caches for `batch` rows of up to `capacity` tokens (default: the model's longest)."""
        return Caches(self.program, batch, min(capacity or self.program.max_length, self.program.max_length))

    @torch.inference_mode()
    def forward(
        self, input_ids: Tensor, positions: Tensor, logit_positions: Tensor, caches: Caches, keys: int
    ) -> Tensor:
        """Run the new tokens and return logits (batch, logits, vocabulary).

        input_ids, positions: int64 (batch, sequence). logit_positions: int64 (batch, logits), indices into the
        sequence. keys: how much of the caches attention looks at; more than every position.
        """
        inputs = (input_ids.contiguous(), positions.contiguous(), logit_positions.contiguous(), self.numbers[:keys])
        values: dict[str, Tensor] = dict(zip(INPUTS, inputs, strict=True))
        for bound in self._steps:
            step = bound.step
            arguments = [values[name] for name in step.values]
            arguments += [caches.tensors[name] for name in step.caches]
            arguments += bound.weights
            values.update(zip(step.outputs, bound.region(arguments), strict=True))
        return values[OUTPUT]


def read_tensors(
    folder: Path, header: PackageHeader, role: str, names: Iterable[str] | None = None
) -> dict[str, Tensor]:
    """Map the named tensors (default: all) of a component from their files, uncopied.

    Raise PackageError for a tensor that the weight index lacks, and for a file that the header does not list.
    """
    index = folder / header.components[role].weights
    document = json.loads(index.read_bytes())
    if document.get("schema") != WEIGHTS_SCHEMA:
        raise PackageError(f"the weight index has schema {document.get('schema')!r}, not {WEIGHTS_SCHEMA!r}")
    places = document["tensors"]
    by_file: dict[str, list[str]] = {}
    for name in places if names is None else names:
        if name not in places:
            raise PackageError(f"the package has no weight `{name}`, which its program names")
        path = f"{role}/weights/{places[name]['file']}"
        if path not in header.files:
            raise PackageError(f"the weight index names `{path}`, which the header does not list")
        by_file.setdefault(path, []).append(name)
    tensors = {}
    for path, members in by_file.items():
        with safe_open(folder / path, framework="pt") as reader:
            tensors.update({name: reader.get_tensor(places[name]["tensor"]) for name in members})
    return tensors
