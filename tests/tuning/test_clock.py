"""What is measured on a GPU: the work between two events, from a cold cache; the events are stand-ins here."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from maxbuild.tuning import clock
from maxbuild.tuning.clock import EventClock


def test_events_hold_the_work_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache is flushed before the first event, and the second is waited for before it is asked; it tells ms."""
    done: list[str] = []

    class Event:
        def __init__(self, *, enable_timing: bool) -> None:
            assert enable_timing
            self.name = f"event {len([step for step in done if step == 'made'])}"
            done.append("made")

        def record(self) -> None:
            # Whoever writes after this event is measured.
            done.append(f"{self.name} of {'flushed' if not flushed().any() else 'dirty'}")

        def synchronize(self) -> None:
            done.append(f"waited for {self.name}")

        def elapsed_time(self, end: Any) -> float:
            done.append(f"{self.name} to {end.name}")
            return 2.5

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(clock, "_FLUSHED", 64)
    made = EventClock(torch.device("cpu"))

    def flushed() -> torch.Tensor:
        return made._flushed

    flushed().fill_(1)
    assert made.seconds(lambda: done.append("work")) == 0.0025
    assert done[2:] == [
        "event 0 of flushed",
        "work",
        "event 1 of flushed",
        "waited for event 1",
        "event 0 to event 1",
    ]


def test_more_is_written_than_any_cache_holds() -> None:
    """The largest L2 cache of the table of devices fits in twice."""
    from maxbuild.targets.devices import device_of
    from maxbuild.targets.spelling import all_targets

    largest = max(device_of(target).l2_cache for target in all_targets() if target.api != "cpu")
    assert 2 * largest <= clock._FLUSHED
