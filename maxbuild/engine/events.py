"""Events: what a live display is told, in order, in the thread that called `execute`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from maxbuild.engine.holder import Holder
from maxbuild.engine.report import TaskReport


class TaskStarted(NamedTuple):
    """A task runs now: it has a worker and its lock."""

    name: str


class TaskProgress(NamedTuple):
    """A running task has done `done` units, of `total` where that is known."""

    name: str
    done: int
    total: int | None


class TaskWaits(NamedTuple):
    """A task waits for another process, which has the right to do the same work."""

    name: str
    holder: Holder


class TaskFinished(NamedTuple):
    """Nothing more will happen to a task; cached and skipped tasks finish without having started."""

    report: TaskReport


class GraphGrew(NamedTuple):
    """These tasks became known, producers first."""

    names: tuple[str, ...]


Event: TypeAlias = TaskStarted | TaskProgress | TaskWaits | TaskFinished | GraphGrew
OnEvent: TypeAlias = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """Take no notice of an event."""
