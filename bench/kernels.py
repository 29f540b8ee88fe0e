"""kernels: what our Triton kernels take of each GPU: registers, stack, shared memory and matrix instructions.

Nothing is timed: kernels are compiled for GPUs that need not be there, and the vendors' tools and code objects tell.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
import triton

from bench.harness import Cell, Figures, Goal, Table, new_parser, run_bench, talk
from maxbuild.inspect.kernel import Kernel, Launch
from maxbuild.inspect.kernels import Aim, inspect_kernel
from maxbuild.kernels.attention import attend
from maxbuild.kernels.compiled import CompiledKernel, RecordedLaunch, compile_launch, record_launches
from maxbuild.kernels.experts import expert_matmul
from maxbuild.targets.devices import Device, device_of
from maxbuild.targets.spelling import all_targets, parse_target

_COLUMNS = ("kernel", "target", "type", "heads", "options", "tile", "warps", "registers", "stack", "shared", "matrix")
_OPTIONS = {
    "plain": {},
    "capped": {"softcap": 30.0},
    "all": {"window": 1024, "softcap": 30.0, "sinks": True},
}
_TILES = ("QUERIES", "KEYS", "ROW_BLOCK", "OUTPUT_BLOCK", "INPUT_BLOCK")


@dataclass(frozen=True, slots=True)
class _Call:
    """One call to compile for one target; heads: key and value size, None for experts."""

    target: str
    dtype: str
    heads: tuple[int, int] | None
    options: str = "plain"


def _launches(call: _Call, device: Device) -> list[RecordedLaunch]:
    dtype = getattr(torch, call.dtype)

    def empty(*shape: int, dtype: torch.dtype = dtype) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    def experts() -> torch.Tensor:
        weights, offsets = empty(8, 1536, 1024).transpose(1, 2), empty(8, dtype=torch.int32)
        return expert_matmul(empty(512, 1024), weights, offsets, device=device)

    def attention(window: int = 0, softcap: float = 0.0, *, sinks: bool = False) -> torch.Tensor:
        assert call.heads is not None
        key, value = call.heads
        new = (empty(2, 64, heads, size).transpose(1, 2) for heads, size in ((8, key), (2, key), (2, value)))
        caches = empty(2, 2, 512, key), empty(2, 2, 512, value)
        positions = empty(2, 64, dtype=torch.int64), empty(512, dtype=torch.int64)
        logits = empty(8) if sinks else None
        return attend(*new, *caches, *positions, key**-0.5, window, softcap, logits, device=device)

    made: Callable[[], object] = experts if call.heads is None else lambda: attention(**_OPTIONS[call.options])
    return record_launches(made)


def _rows(call: _Call) -> list[tuple[Cell, ...]]:
    device = device_of(parse_target(call.target))
    return [_row(call, launch, compile_launch(launch, device), device) for launch in _launches(call, device)]


def _row(call: _Call, launch: RecordedLaunch, compiled: CompiledKernel, device: Device) -> tuple[Cell, ...]:
    kernel = _inspected(compiled, device)
    assert kernel.usage is not None
    heads = "-" if call.heads is None else "/".join(map(str, dict.fromkeys(call.heads)))
    tile = "×".join(str(launch.arguments[name]) for name in _TILES if name in launch.arguments) or "-"
    warps = f"{compiled.num_warps}, {compiled.num_stages}"
    usage, matrix = kernel.usage, kernel.mix.matrix if kernel.mix else None
    taken = (usage.registers, usage.stack, kernel.shared_memory, matrix)
    return (compiled.name, call.target, call.dtype, heads, call.options, tile, warps, *taken)


def _inspected(compiled: CompiledKernel, device: Device) -> Kernel:
    name = compiled.name
    shape = (compiled.shared_memory, compiled.num_warps, compiled.num_stages, device.warp_size)
    aim = Aim(parse_target(device.target), device, with_instructions=True)
    return inspect_kernel("", Launch(name, name, name, *shape, name), compiled.binary, aim)[0]


def _calls(options: argparse.Namespace) -> Iterator[_Call]:
    heads = [(int(key), int(value or key)) for key, _, value in (size.partition("/") for size in options.heads)]
    for target, dtype in itertools.product(options.target, options.dtype):
        for size, kind in itertools.product(heads, options.options):
            yield _Call(target, dtype, size, kind)
        yield _Call(target, dtype, None)


def _measure(options: argparse.Namespace, _folder: Path) -> Figures:
    rows: list[tuple[Cell, ...]] = []
    calls = list(_calls(options))
    with ProcessPoolExecutor(options.jobs) as processes:
        for call, found in zip(calls, processes.map(_rows, calls), strict=True):
            talk(f"{call.target} {call.dtype} {call.heads}")
            rows += found
    spilling = sorted({f"{row[1]} {row[0]} {row[2]} {row[3]}" for row in rows if row[8]})
    large = [row for row in rows if int(row[9] or 0) > device_of(parse_target(str(row[1]))).shared_memory_per_block]
    return Figures(
        (Table(_COLUMNS, tuple(sorted(rows, key=lambda row: (str(row[0]), _place(str(row[1])))))),),
        (
            Goal("no kernel keeps registers in memory", ", ".join(spilling) or f"{len(rows)} kernels", not spilling),
            Goal("every kernel fits into the shared memory of a block", f"{len(rows)} kernels", not large),
        ),
        (
            f"Triton {triton.__version__}; registers per thread, stack in bytes per thread, shared memory in bytes",
            "warps: and pipeline stages; matrix: matrix instructions as they stand in the code",
        ),
    )


def _place(target: str) -> int:
    """Return the place of a target among all."""
    return [known.spelling for known in all_targets()].index(target)


def main() -> int:
    """Compile and print."""
    gpus = [target.spelling for target in all_targets() if target.api != "cpu"]
    parser = new_parser("What our Triton kernels take of each GPU.")
    parser.add_argument("--target", nargs="+", default=gpus, choices=gpus, metavar="TARGET")
    parser.add_argument("--dtype", nargs="+", default=["bfloat16"], choices=["bfloat16", "float16", "float32"])
    parser.add_argument("--heads", nargs="*", default=["64", "128", "192/128", "256"], help="sizes, or KEY/VALUE sizes")
    parser.add_argument("--options", nargs="+", default=["plain"], choices=sorted(_OPTIONS), help="of the attention")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    options = parser.parse_args()
    if options.quick:
        options.target, options.heads = ["cuda:sm_90", "hip:gfx942"], ["128"]
    return run_bench("kernels", _measure, options)


if __name__ == "__main__":
    sys.exit(main())
