"""Calling a step function, the same way in a thread and in a process of its own: find it, run it, check its answer."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

from maxbuild.engine.task import Job, Step
from maxbuild.errors import TaskFailed

_PROGRESS_INTERVAL = 0.1


def find_step(run: str) -> Step:
    """Import the function that `run` ("package.module:function") names."""
    module, _, function = run.partition(":")
    return cast("Step", getattr(importlib.import_module(module), function))


def call_step(run: str, job: Job) -> dict[str, Path]:
    """Carry out `job` with the step `run` and return its outputs; TypeError when it returns anything else."""
    outputs = find_step(run)(job)
    if not isinstance(outputs, Mapping) or not all(isinstance(path, Path) for path in outputs.values()):
        raise TypeError(f"step {run} must return the paths of its outputs by name")
    return dict(outputs)


class SteadyProgress:
    """Passes progress on at most ten times a second, but always the last unit."""

    def __init__(self, report: Callable[[int, int | None], None]) -> None:
        """Pass progress on to `report`."""
        self._report = report
        self._next = 0.0

    def __call__(self, done: int, total: int | None = None) -> None:
        """Note that `done` units of `total` are done."""
        now = time.monotonic()
        if now >= self._next or done == total:
            self._next = now + _PROGRESS_INTERVAL
            self._report(done, total)


def failure(name: str, cause: str) -> TaskFailed:
    """Return the error for a task that ended without saying what is wrong in our own words."""
    return TaskFailed(f"task `{name}` failed", causes=[cause])
