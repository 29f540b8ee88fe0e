"""The launches of a call, compiled for a device and carried out nowhere: what tests and benches look at.

Invariant: a kernel is compiled as AOTInductor would for such a call: the same constants, options and alignments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor
from triton.compiler import ASTSource

from maxbuild.kernels.launch import Size, launched_by
from maxbuild.targets.devices import Device
from maxbuild.targets.virtual import gpu_target

_TYPES: Mapping[torch.dtype, str] = {
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.int32: "*i32",
    torch.int64: "*i64",
}

_ALIGNED = [["tt.divisibility", 16]]
"""How Triton is told that a pointer or a number is a multiple of 16."""


@dataclass(frozen=True, slots=True)
class RecordedLaunch:
    """One launch that was asked for: the kernel, its grid, its arguments by name and the compiler's options."""

    kernel: Any
    grid: tuple[Size, ...]
    arguments: Mapping[str, Any]
    options: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class CompiledKernel:
    """One kernel's code object (cubin or hsaco), and the launch that it needs; shared_memory is in bytes."""

    name: str
    binary: bytes
    shared_memory: int
    num_warps: int
    num_stages: int


def record_launches(call: Callable[[], object]) -> list[RecordedLaunch]:
    """Return the launches that `call` asks for, none of them carried out; its tensors may be on the meta device."""
    recorded: list[RecordedLaunch] = []

    def record(kernel: Any, grid: tuple[Size, ...], args: tuple[Any, ...], options: Mapping[str, Any]) -> None:
        arguments = {**dict(zip(kernel.arg_names, args, strict=False)), **options}
        compiler = {name: arguments.pop(name) for name in ("num_warps", "num_stages") if name in arguments}
        recorded.append(RecordedLaunch(kernel, grid, arguments, compiler))

    with launched_by(record):
        call()
    return recorded


def compile_launch(launch: RecordedLaunch, device: Device) -> CompiledKernel:
    """Compile a launch's kernel for `device`, as for tensors and rows that start at multiples of 16 bytes."""
    signature: dict[str, str] = {}
    constants: dict[tuple[int], Any] = {}
    attributes: dict[tuple[int], Any] = {}
    for index, parameter in enumerate(launch.kernel.params):
        value = launch.arguments[parameter.name]
        if parameter.is_constexpr or _is_one(value):
            signature[parameter.name], constants[index,] = "constexpr", value
        else:
            signature[parameter.name] = _TYPES[value.dtype] if isinstance(value, Tensor) else "i32"
            if isinstance(value, Tensor) or value % 16 == 0:
                attributes[index,] = _ALIGNED
    source = ASTSource(launch.kernel, signature, constants, attributes)
    compiled = triton.compile(source, target=gpu_target(device), options=dict(launch.options))
    binary = compiled.asm["cubin" if device.capability else "hsaco"]
    meta = compiled.metadata
    return CompiledKernel(meta.name, binary, meta.shared, meta.num_warps, meta.num_stages)


def _is_one(value: object) -> bool:
    return isinstance(value, int) and value == 1
