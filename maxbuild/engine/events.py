"""Events: what a live display is told, in order, in the thread that called `execute`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from maxbuild.engine.holder import Holder
from maxbuild.engine.report import TaskReport


@dataclass(frozen=True, slots=True)
class TaskStarted:
    """A task runs now: it has a worker and its lock."""

    name: str


@dataclass(frozen=True, slots=True)
class TaskProgress:
    """A running task has done `done` units, of `total` where that is known."""

    name: str
    done: int
    total: int | None


@dataclass(frozen=True, slots=True)
class TaskWaits:
    """A task waits for another process, which has the right to do the same work."""

    name: str
    holder: Holder


@dataclass(frozen=True, slots=True)
class TaskFinished:
    """Nothing more will happen to a task; cached and skipped tasks finish without having started."""

    report: TaskReport


@dataclass(frozen=True, slots=True)
class GraphGrew:
    """These tasks became known, producers first."""

    names: tuple[str, ...]


Event: TypeAlias = TaskStarted | TaskProgress | TaskWaits | TaskFinished | GraphGrew
OnEvent: TypeAlias = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """Take no notice of an event."""
