"""How long a device takes for some work, measured on the device itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

_FLUSHED = 256 << 20
"""Bytes written before each measurement, more than any L2 cache holds: between two calls of a region other layers'
weights go through it. As `triton.testing.do_bench` does, with as much (`get_empty_cache_for_benchmark`)."""


class Clock(Protocol):
    """Measures work."""

    def seconds(self, work: Callable[[], object]) -> float:
        """Do `work` once and return the seconds that the device took for it."""


class EventClock:
    """Measures between two events on the current stream of a GPU, from a cold L2 cache.

    The device is still busy with flushing while the work is handed to it, so that the host's part of short work is
    hidden, as far as it takes no longer than that.
    """

    def __init__(self, device: torch.device) -> None:
        """Measure on `device`, a GPU that torch calls `cuda`."""
        self._flushed = torch.empty(_FLUSHED // 4, dtype=torch.int32, device=device)
        self._begin, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def seconds(self, work: Callable[[], object]) -> float:
        """Do `work` once and return the seconds from its first kernel to its last."""
        self._flushed.zero_()
        self._begin.record()
        work()
        self._end.record()
        self._end.synchronize()
        return float(self._begin.elapsed_time(self._end)) / 1000
