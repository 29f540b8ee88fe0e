"""Run one component: its regions as compiled code, its weights as they lie in their files, its caches as plain tensors.

Invariant: a forward pass changes nothing but the caches it is given, and every tensor that a region gets lies on the
model's device, so that a pass neither copies between host and device nor waits for the device.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from maxbuild.errors import PackageError, UsageError
from maxbuild.runtime.package import PackageHeader
from maxbuild.runtime.program import Program, Results, Step
from maxbuild.runtime.weights import read_tensors

_CPU = torch.device("cpu")

_ALIGNMENT = 16
"""Bytes. Kernels for GPUs are compiled for inputs that start at a multiple of it; a region copies others, and warns
about each (`CppWrapperGpu.codegen_inputs` in torch/_inductor/codegen/cpp_wrapper_gpu.py)."""

RegionCall = Callable[[list[Tensor]], Sequence[Tensor]]
"""A region as it is called: the list of its inputs, dense and in order, which the call may empty."""


class Region:
    """One compiled region, called with its values, caches and weights in order."""

    def __init__(self, path: Path, device: torch.device = _CPU) -> None:
        """Load the artifact to run on `device`; raise PackageError where torch cannot."""
        self._name, self._device = path.name, device
        self._counted = _as_many_as_multiprocessors(device) if device.type == "cuda" else None
        index = -1 if device.index is None else device.index
        try:
            # One runner, for one caller at a time, and on a GPU no events: calls are ordered by the stream they are on.
            self._loader = torch._C._aoti.AOTIModelPackageLoader(str(path), "model", True, 1, index)
        except RuntimeError as error:
            raise self._failed("could not load", error) from error

    def __call__(self, inputs: list[Tensor]) -> Sequence[Tensor]:
        """Return the outputs. `inputs` are dense tensors of the device; the list is emptied.

        Raise PackageError where it fails: kernels are loaded by their first call, and what the device lacks shows then.
        """
        if self._counted is not None:
            inputs.append(self._counted)
        try:
            outputs: Sequence[Tensor] = self._loader.boxed_run(inputs)
        except RuntimeError as error:
            raise self._failed("could not run", error) from error
        return outputs

    def _failed(self, what: str, error: RuntimeError) -> PackageError:
        first = str(error).strip().partition("\n")[0]
        return PackageError(f"{what} the compiled region `{self._name}` on `{self._device}`", causes=[first])


@functools.cache
def _as_many_as_multiprocessors(device: torch.device) -> Tensor:
    """Return the last input of regions for GPUs, of which the size alone is read: attention is split by it."""
    return torch.empty(torch.cuda.get_device_properties(device).multi_processor_count, dtype=torch.int8, device=device)


class Caches:
    """Key and value caches of a batch of rows, each (batch, heads, capacity, size)."""

    def __init__(self, program: Program, batch: int, capacity: int, device: torch.device = _CPU) -> None:
        """Allocate caches for `batch` rows of up to `capacity` tokens; PackageError where the device has no room."""
        try:
            self.tensors: Mapping[str, Tensor] = {
                spec.name: torch.zeros(
                    batch, spec.heads, capacity, spec.size, dtype=getattr(torch, spec.dtype), device=device
                )
                for spec in program.caches
            }
        except torch.OutOfMemoryError as error:
            raise PackageError(
                f"`{device}` has too little memory for the caches of {batch} × {capacity} tokens",
                causes=[str(error).strip().partition("\n")[0]],
                hint="ask for fewer tokens",
            ) from error


@dataclass(frozen=True, slots=True)
class _BoundStep:
    region: RegionCall
    step: Step
    weights: tuple[Tensor, ...]


class Model:
    """One component, ready to run."""

    def __init__(
        self,
        program: Program,
        regions: Mapping[str, RegionCall],
        weights: Mapping[str, Tensor],
        device: torch.device = _CPU,
    ) -> None:
        """Bind `program` to callables for its regions and tensors for its weights, which lie on `device`."""
        self.program, self.weights, self.device = program, weights, device
        self._regions = regions
        self._steps = [
            _BoundStep(regions[step.region], step, tuple(weights[name] for name in step.weights))
            for step in program.steps
        ]
        self.numbers = torch.arange(program.max_length, device=device)
        """0, 1, 2 … up to the longest row, int64: positions are slices of it."""
        # A region runs on the current stream of the current device (`AOTIModelContainerRunnerCuda::run_impl`).
        self._current = torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()

    @classmethod
    def load(
        cls,
        folder: Path,
        header: PackageHeader,
        role: str,
        device: torch.device = _CPU,
        choices: Mapping[str, str] = MappingProxyType({}),
    ) -> Model:
        """Load a component of the package in `folder` onto `device`; PackageError where it cannot be.

        The files have been checked, and the host. choices: files of regions that others take the place of.
        """
        entry, program = header.components[role], _read_program(folder, header, role)
        weights = read_tensors(folder, header, role, program.weights, device)
        missing = [name for name in program.regions if name not in entry.regions]
        if missing:
            raise PackageError(f"the package has no region `{missing[0]}`")
        regions = {
            path: Region(folder / choices.get(path, path), device) for path in sorted(set(entry.regions.values()))
        }
        return cls(program, {name: regions[path] for name, path in entry.regions.items()}, weights, device)

    def with_regions(self, replace: Callable[[str, RegionCall], RegionCall]) -> Model:
        """Return a model of the same program and weights with each region replaced by what `replace` makes of it."""
        regions = {name: replace(name, self._regions[name]) for name in self.program.regions}
        return Model(self.program, regions, self.weights, self.device)

    def caches(self, batch: int, capacity: int | None = None) -> Caches:
        """Return empty caches for `batch` rows of up to `capacity` tokens (default: the model's longest)."""
        longest = self.program.max_length
        return Caches(self.program, batch, min(capacity or longest, longest), self.device)

    @torch.inference_mode()
    def forward(
        self, input_ids: Tensor, positions: Tensor, logit_positions: Tensor, caches: Caches, keys: int
    ) -> Tensor:
        """Run the new tokens and return logits (batch, logits, vocabulary), whichever the program makes of itself.

        input_ids, positions: int64 (batch, sequence). logit_positions: int64 (batch, logits), indices into the
        sequence. All lie on the model's device. keys: how much of the caches attention looks at; more than every
        position. Raise UsageError where the program makes embeddings.
        """
        if self.program.results is Results.CHOSEN:
            return self._run((input_ids, positions, logit_positions), caches, keys)
        rows = torch.arange(len(logit_positions), device=self.device)[:, None].expand_as(logit_positions)
        chosen = self.forward_ragged(input_ids, positions, rows.reshape(-1), logit_positions.reshape(-1), caches, keys)
        return chosen.view(*logit_positions.shape, -1)

    @torch.inference_mode()
    def forward_ragged(
        self,
        input_ids: Tensor,
        positions: Tensor,
        logit_rows: Tensor,
        logit_positions: Tensor,
        caches: Caches,
        keys: int,
    ) -> Tensor:
        """Run the new tokens and return logits (logits, vocabulary), of as many tokens of each row as are asked for.

        logit_rows, logit_positions: int64 (logits,), rows and indices into the sequence; else as for `forward`. Raise
        UsageError where the package was built without `enable_variable_logits` and without `enable_echo`.
        """
        if self.program.results is Results.EVERY:
            return self.forward_every(input_ids, positions, caches, keys)[logit_rows, logit_positions]
        self._require(Results.RAGGED)
        return self._run((input_ids, positions, logit_rows, logit_positions), caches, keys)

    @torch.inference_mode()
    def forward_every(self, input_ids: Tensor, positions: Tensor, caches: Caches, keys: int) -> Tensor:
        """Run the new tokens and return the logits (batch, sequence, vocabulary) of each; else as for `forward`.

        Raise UsageError where the package was built without `enable_echo`.
        """
        self._require(Results.EVERY)
        return self._run((input_ids, positions), caches, keys)

    @torch.inference_mode()
    def forward_embedding(self, input_ids: Tensor, lengths: Tensor) -> Tensor:
        """Return embeddings of whole rows, float32: (batch, size), or (batch, sequence, size) where none are pooled.

        input_ids: int64 (batch, sequence). lengths: int64 (batch,), at least 1; tokens from there on are padding. Raise
        UsageError where the package was built for text.
        """
        self._require(Results.EMBEDDING)
        batch, sequence = input_ids.shape
        positions = self.numbers[:sequence].expand(batch, -1)
        return self._run((input_ids, positions, lengths), self.caches(batch, sequence), sequence)

    def _require(self, results: Results) -> None:
        if self.program.results is results:
            return
        if self.program.results is Results.EMBEDDING:
            raise UsageError("this is an embedding model: it has no logits, and generates no text")
        message, hint = _MISSING[results]
        raise UsageError(message, hint=hint)

    def _run(self, arguments: Sequence[Tensor], caches: Caches, keys: int) -> Tensor:
        """Run the program on `arguments`, which are its inputs but the last, and return what it ends with."""
        inputs = map(as_dense, (*arguments, self.numbers[:keys]))
        values: dict[str, Tensor] = dict(zip(self.program.results.inputs, inputs, strict=True))
        with self._current:
            for bound in self._steps:
                step = bound.step
                arguments = [values[name] for name in step.values]
                arguments += [caches.tensors[name] for name in step.caches]
                arguments += bound.weights
                values.update(zip(step.outputs, bound.region(arguments), strict=True))
        return values[self.program.results.output]


# What is wrong where a program ends with something else, and what helps.
_MISSING: Mapping[Results, tuple[str, str]] = {
    Results.RAGGED: (
        "the model gives as many logits for each row of a batch",
        "build it with `enable_variable_logits` under `sampling`",
    ),
    Results.EVERY: (
        "the model gives logits of chosen tokens, not of every one",
        "build it with `enable_echo: true`",
    ),
    Results.EMBEDDING: (
        "the model gives logits, not embeddings",
        "run an embedding model for that",
    ),
}


def bytes_of_weights(folder: Path, header: PackageHeader, role: str) -> int:
    """Return how many bytes the weights of a component take on a device. They are mapped for it, so none is read."""
    weights = read_tensors(folder, header, role, _read_program(folder, header, role).weights)
    return sum(tensor.nbytes for tensor in weights.values())


def _read_program(folder: Path, header: PackageHeader, role: str) -> Program:
    """Return a component's program; PackageError where it is none that this version understands."""
    return Program.from_json(json.loads((folder / header.components[role].program).read_bytes()))


def as_dense(tensor: Tensor) -> Tensor:
    """Return the tensor, or a copy of it, without gaps and aligned; allocators align what storages begin with."""
    dense = tensor.contiguous()
    misplaced = dense.storage_offset() * dense.element_size() % _ALIGNMENT
    return dense.clone() if misplaced else dense
