"""What kernels may count on for each GPU target: limits of its architecture, and the sizes of one product of it.

Invariant: a table, asked instead of a driver, so that a build needs no GPU and comes out alike on all hosts. `sources`
says for each figure where it is from; it is a module of its own so that a better citation compiles nothing anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from maxbuild.targets.spelling import Target

_KIB = 1 << 10
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU; sizes are in bytes.

    A multiprocessor is an SM of NVIDIA's and a compute unit of AMD's, a warp also a wavefront, shared memory also LDS.
    """

    target: str
    """The spelling of the target that the GPU belongs to."""
    name: str
    """The product that `multiprocessors`, `l2_cache` and `memory` are those of."""
    multiprocessors: int
    warp_size: int
    shared_memory_per_block: int
    """The most that one block can ask for; on CUDA it must opt in to what is beyond 48 KiB."""
    shared_memory_per_multiprocessor: int
    registers_per_multiprocessor: int
    """32-bit vector registers of all lanes; on AMD's accelerators those for matrices too."""
    max_threads_per_multiprocessor: int
    max_threads_per_block: int
    l2_cache: int
    memory: int
    """As it is sold, in GiB; what a driver offers is a little less."""
    capability: tuple[int, int] | None
    """The compute capability, CUDA only."""


class _Architecture(NamedTuple):
    """What all products of an architecture have in common."""

    warp_size: int
    block_kib: int
    multiprocessor_kib: int
    registers: int
    multiprocessor_threads: int
    block_threads: int


class _Product(NamedTuple):
    """One product: name, multiprocessors, L2 cache in KiB, memory in GiB."""

    name: str
    multiprocessors: int
    l2_kib: int
    memory_gib: int


_ARCHITECTURES: Mapping[str, _Architecture] = {
    "cuda:sm_80": _Architecture(32, 163, 164, 65_536, 2048, 1024),
    "cuda:sm_86": _Architecture(32, 99, 100, 65_536, 1536, 1024),
    "cuda:sm_89": _Architecture(32, 99, 100, 65_536, 1536, 1024),
    "cuda:sm_90": _Architecture(32, 227, 228, 65_536, 2048, 1024),
    "cuda:sm_100": _Architecture(32, 227, 228, 65_536, 2048, 1024),
    "cuda:sm_120": _Architecture(32, 99, 100, 65_536, 1536, 1024),
    "hip:gfx90a": _Architecture(64, 64, 64, 131_072, 2048, 1024),
    "hip:gfx942": _Architecture(64, 64, 64, 131_072, 2048, 1024),
    "hip:gfx950": _Architecture(64, 160, 160, 131_072, 2048, 1024),
    # AMD's tables give LDS and registers of a work-group processor, which is two compute units; these are of one.
    "hip:gfx1100": _Architecture(32, 64, 64, 98_304, 1024, 1024),
}

_PRODUCTS: Mapping[str, _Product] = {
    "cuda:sm_80": _Product("A100 80GB", 108, 40_960, 80),
    "cuda:sm_86": _Product("RTX A6000", 84, 6_144, 48),
    "cuda:sm_89": _Product("L40S", 142, 98_304, 48),
    "cuda:sm_90": _Product("H100 SXM 80GB", 132, 51_200, 80),
    "cuda:sm_100": _Product("B200", 148, 129_536, 180),
    "cuda:sm_120": _Product("RTX PRO 6000 Blackwell", 188, 131_072, 96),
    # Each of its two dies is a device of its own to HIP; so is the one of an MI210, with 104 compute units.
    "hip:gfx90a": _Product("MI250X, one die", 110, 8_192, 64),
    # The L2 cache is that of all eight dies, 4 MiB each: a die reads the lines of the others through Infinity Cache.
    "hip:gfx942": _Product("MI300X", 304, 32_768, 192),
    "hip:gfx950": _Product("MI355X", 256, 32_768, 288),
    "hip:gfx1100": _Product("RX 7900 XTX", 96, 6_144, 24),
}


def device_of(target: Target) -> Device:
    """Return the facts of a GPU target; KeyError for a target that is no GPU."""
    architecture, product = _ARCHITECTURES[target.spelling], _PRODUCTS[target.spelling]
    return Device(
        target=target.spelling,
        name=product.name,
        multiprocessors=product.multiprocessors,
        warp_size=architecture.warp_size,
        shared_memory_per_block=architecture.block_kib * _KIB,
        shared_memory_per_multiprocessor=architecture.multiprocessor_kib * _KIB,
        registers_per_multiprocessor=architecture.registers,
        max_threads_per_multiprocessor=architecture.multiprocessor_threads,
        max_threads_per_block=architecture.block_threads,
        l2_cache=product.l2_kib * _KIB,
        memory=product.memory_gib * _GIB,
        capability=target.capability,
    )
