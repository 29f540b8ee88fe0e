"""A process in which Triton interprets kernels instead of compiling them, and what tests have it compute.

Triton decides which of the two it does when a kernel is decorated, its own library among them, so a process does one or
the other. Tests ask the process for one case after another.
"""

from __future__ import annotations

import os
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from unittest import mock

import torch
from torch import Tensor

from maxbuild.targets.devices import Device, device_of
from maxbuild.targets.spelling import parse_target


@dataclass(frozen=True)
class Case:
    """One call of the operator, made of numbers alone: tensors are drawn from `seed`."""

    starts: tuple[int, ...]
    """For each row, how many tokens its cache holds before the new ones."""
    sequence: int
    group: int = 1
    key_heads: int = 1
    key_size: int = 16
    value_size: int = 16
    window: int = 0
    softcap: float = 0.0
    sinks: bool = False
    dtype: str = "float32"
    cache_dtype: str | None = None
    """None: that of everything else."""
    target: str = "cuda:sm_90"
    multiprocessors: int | None = None
    spare: int = 3
    """Slots of the caches beyond the longest row."""
    reversed_tokens: bool = False
    """New tokens come in the order of falling positions."""
    contiguous: bool = False
    """Query, key and value are dense, and not the transposed views that models make."""
    garbage: float = float("nan")
    """What all slots hold that no query may see."""
    seed: int = 0

    @property
    def heads(self) -> int:
        """Return the number of query heads."""
        return self.group * self.key_heads

    @property
    def scale(self) -> float:
        """Return the usual factor of scores."""
        return self.key_size**-0.5

    @property
    def device(self) -> Device:
        """Return the device whose tiles are used."""
        device = device_of(parse_target(self.target))
        return replace(device, multiprocessors=self.multiprocessors or device.multiprocessors)


@dataclass(frozen=True)
class Tensors:
    """The tensors of a case, caches as they are before the call."""

    query: Tensor
    key: Tensor
    value: Tensor
    key_cache: Tensor
    value_cache: Tensor
    positions: Tensor
    key_positions: Tensor
    sinks: Tensor | None


@dataclass(frozen=True)
class Outcome:
    """What came of a case: what was attended to, the caches after it, and the grids of its launches."""

    attended: Tensor
    key_cache: Tensor
    value_cache: Tensor
    grids: dict[str, tuple[int, ...]]


def make_tensors(case: Case) -> Tensors:
    """Return the tensors of a case: sensible numbers where a query may see them, garbage everywhere else."""
    random = torch.Generator().manual_seed(case.seed)
    batch, dtype = len(case.starts), getattr(torch, case.dtype)
    cache_dtype = getattr(torch, case.cache_dtype or case.dtype)

    def draw(heads: int, size: int) -> Tensor:
        drawn = torch.randn(batch, case.sequence, heads, size, generator=random).to(dtype).transpose(1, 2)
        return drawn.contiguous() if case.contiguous else drawn

    order = torch.arange(case.sequence)
    positions = torch.tensor(case.starts)[:, None] + (order.flip(0) if case.reversed_tokens else order)
    slots = int(positions.max()) + 1
    caches = []
    for size in (case.key_size, case.value_size):
        cache = torch.full((batch, case.key_heads, slots + case.spare, size), case.garbage, dtype=cache_dtype)
        for row, start in enumerate(case.starts):
            low = max(0, start - case.window + 1) if case.window else 0
            seen = torch.randn(case.key_heads, start - low, size, generator=random)
            cache[row, :, low:start] = seen.to(cache_dtype)
        caches.append(cache)
    sinks = torch.randn(case.heads, generator=random).to(dtype) if case.sinks else None
    key_size, value_size = case.key_size, case.value_size
    tensors = (draw(case.heads, key_size), draw(case.key_heads, key_size), draw(case.key_heads, value_size), *caches)
    return Tensors(*tensors, positions, torch.arange(slots), sinks)


def attend_in_process(case: Case) -> Outcome:
    """Compute a case with the kernels; runs in the interpreting process."""
    from maxbuild.kernels import attention, launch

    given = make_tensors(case)
    grids: dict[str, tuple[int, ...]] = {}

    def note(kernel: object, grid: tuple[int, ...], args: tuple[object, ...], options: dict[str, object]) -> None:
        grids[kernel.__name__] = grid
        launch._launch_in_torch(kernel, grid, args, options)

    with launch.launched_by(note):
        attended = attention.attend(
            *(given.query, given.key, given.value, given.key_cache, given.value_cache),
            *(given.positions, given.key_positions, case.scale, case.window, case.softcap, given.sinks),
            device=case.device,
        )
    return Outcome(attended, given.key_cache, given.value_cache, grids)


@dataclass(frozen=True)
class ExpertCase:
    """One call of the matmul of experts: how many rows each expert gets, and the sizes of the matrices."""

    counts: tuple[int, ...]
    inputs: int
    outputs: int
    transposed: bool = True
    """Inputs lie side by side in the weights, as in a linear layer's, and not outputs."""
    dtype: str = "float32"
    target: str = "cuda:sm_90"
    seed: int = 0


def make_expert_tensors(case: ExpertCase) -> tuple[Tensor, Tensor, Tensor]:
    """Return the rows, weights and offsets of a case."""
    random = torch.Generator().manual_seed(case.seed)
    dtype = getattr(torch, case.dtype)
    sizes = (case.outputs, case.inputs) if case.transposed else (case.inputs, case.outputs)
    weights = torch.randn(len(case.counts), *sizes, generator=random).to(dtype)
    rows = torch.randn(sum(case.counts), case.inputs, generator=random).to(dtype)
    offsets = torch.tensor(case.counts).cumsum(0).to(torch.int32)
    return rows, weights.transpose(1, 2) if case.transposed else weights, offsets


def multiply_in_process(case: ExpertCase) -> tuple[Tensor, list[tuple[int, ...]]]:
    """Compute a case with the kernel; runs in the interpreting process."""
    from maxbuild.kernels import experts, launch

    grids: list[tuple[int, ...]] = []

    def note(kernel: object, grid: tuple[int, ...], args: tuple[object, ...], options: dict[str, object]) -> None:
        grids.append(grid)
        launch._launch_in_torch(kernel, grid, args, options)

    with launch.launched_by(note):
        product = experts.expert_matmul(*make_expert_tensors(case), device=device_of(parse_target(case.target)))
    return product, grids


class Interpreter:
    """The process, started at the first question and asked one at a time."""

    def __init__(self) -> None:
        # Children inherit the environment as it is when they start, which is at the first task.
        self._environment = mock.patch.dict(os.environ, {"TRITON_INTERPRET": "1"})
        self._process = ProcessPoolExecutor(1, get_context("spawn"), _prepare)

    def attend(self, case: Case) -> Outcome:
        """Return what the kernels make of a case."""
        with self._environment:
            return self._process.submit(attend_in_process, case).result()

    def multiply(self, case: ExpertCase) -> tuple[Tensor, list[tuple[int, ...]]]:
        """Return what the matmul of experts makes of a case, and the grids of its launches."""
        with self._environment:
            return self._process.submit(multiply_in_process, case).result()

    def close(self) -> None:
        """End the process."""
        self._process.shutdown()


def _prepare() -> None:
    """Make the interpreter strict, and able to multiply what it takes for 16-bit whole numbers."""
    from triton.runtime import interpreter

    torch.set_num_threads(1)
    warnings.simplefilter("error", RuntimeWarning)
    assert "maxbuild.kernels.attention" not in sys.modules
    # numpy has no bfloat16: the interpreter keeps its bits as uint16, and its dot product multiplies those (Triton 3.7,
    # `InterpreterBuilder.create_dot`).
    plain_dot = interpreter.InterpreterBuilder.create_dot

    def create_dot(builder: object, left: object, right: object, *rest: object) -> object:
        return plain_dot(builder, *(_widened(operand, interpreter) for operand in (left, right)), *rest)

    interpreter.InterpreterBuilder.create_dot = create_dot


def _widened(operand: object, interpreter: object) -> object:
    tl = interpreter.tl
    if operand.dtype.scalar is not tl.bfloat16:
        return operand
    wide = interpreter._convert_float(operand.data, tl.bfloat16, tl.float32, None).view("float32")
    return interpreter.TensorHandle(wide, tl.float32)
