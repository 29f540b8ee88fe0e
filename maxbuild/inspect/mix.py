"""What instructions a kernel is made of, in the few sorts that say how it will run, the same for all GPUs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Sort(StrEnum):
    """What an instruction does."""

    MATRIX = "matrix"
    """A product of matrices on the matrix units: HMMA, WGMMA, UTCMMA …, `v_mfma`, `v_wmma`."""
    FMA = "fma"
    """A multiply-add per lane, on the ordinary units."""
    GLOBAL = "global"
    """Loads, stores and atomics in the GPU's memory."""
    SHARED = "shared"
    """The same in shared memory."""
    LOCAL = "local"
    """The same in a thread's own memory, where spilled registers go."""
    BARRIER = "barrier"
    """Waiting for the other threads of the block."""
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Mix:
    """How many instructions of each sort a kernel has; as they stand in its code, not as often as they run."""

    matrix: int = 0
    fma: int = 0
    global_: int = 0
    shared: int = 0
    local: int = 0
    barrier: int = 0
    other: int = 0

    @property
    def total(self) -> int:
        """Return how many instructions there are."""
        return self.matrix + self.fma + self.global_ + self.shared + self.local + self.barrier + self.other


def mix_of(sorts: Iterable[Sort]) -> Mix:
    """Return the counts of `sorts`."""
    counts = Counter(sorts)
    return Mix(
        matrix=counts[Sort.MATRIX],
        fma=counts[Sort.FMA],
        global_=counts[Sort.GLOBAL],
        shared=counts[Sort.SHARED],
        local=counts[Sort.LOCAL],
        barrier=counts[Sort.BARRIER],
        other=counts[Sort.OTHER],
    )
