"""One kernel of a package: how it is launched, and what its code takes of the GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from maxbuild.inspect.mix import Mix


@dataclass(frozen=True, slots=True)
class Launch:
    """One kernel as `region/maxbuild.json` describes its launch; sizes in bytes."""

    name: str
    file: str
    entry: str
    """The symbol that is launched."""
    shared_memory: int
    """What the launch asks for, beside what the code has of its own."""
    num_warps: int
    num_stages: int
    warp_size: int
    source: str
    """Where the kernel is from: `inductor`, or a module of ours."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read one entry; KeyError or TypeError where it is malformed."""
        numbers = {name: value[name] for name in ("shared_memory", "num_warps", "num_stages", "warp_size")}
        texts = {name: value[name] for name in ("name", "file", "entry", "source")}
        if not all(isinstance(text, str) for text in texts.values()):
            raise TypeError("name, file, entry and source must be text")
        if not all(isinstance(number, int) and 0 <= number < 1 << 40 for number in numbers.values()):
            raise TypeError("shared_memory, num_warps, num_stages and warp_size must be whole numbers")
        return cls(**texts, **numbers)


@dataclass(frozen=True, slots=True)
class Usage:
    """What one kernel's code takes: registers are per thread, `stack` bytes per thread, `shared` bytes per block."""

    registers: int
    """32-bit registers; on AMD the vector registers, those for accumulation among them."""
    accumulators: int | None
    """AMD: how many of them are for accumulation (AGPRs)."""
    scalars: int | None
    """AMD: registers that all threads of a wavefront share."""
    stack: int
    """Memory of each thread's own, in the GPU's memory: spilled registers, and arrays indexed at run time."""
    spilled: int | None
    """How many registers were spilled, where the code says so."""
    shared: int


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel: its launch, the size of its file, what it takes (None where no tool told), and its instructions."""

    launch: Launch
    size: int
    usage: Usage | None = None
    mix: Mix | None = None

    @property
    def shared_memory(self) -> int:
        """Return the bytes of shared memory that a block takes, the code's own and those the launch asks for."""
        return self.launch.shared_memory + (self.usage.shared if self.usage else 0)
