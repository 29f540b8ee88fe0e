"""Reports: what became of every task of a build."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from maxbuild.engine.digest import TaskKey
from maxbuild.engine.document import Document
from maxbuild.engine.explain import Explanation
from maxbuild.engine.graph import Deferred, TaskGraph
from maxbuild.engine.records import Result
from maxbuild.errors import MaxbuildError


class State(StrEnum):
    """What became of a task."""

    CACHED = "cached"
    """Its result was in the store; nothing ran."""
    FETCHED = "fetched"
    """Its result came from a remote cache; nothing ran."""
    BUILT = "built"
    """It ran, and left a result."""
    FAILED = "failed"
    """It ran, or its input could not be read, and there is an error."""
    SKIPPED = "skipped"
    """A task it consumes from failed or was interrupted."""
    WOULD_RUN = "would_run"
    """It has reasons to run and was not started: a survey, or a build that stopped before."""
    WAITING = "waiting"
    """What it consumes is not known yet, so nothing can be said."""
    INTERRUPTED = "interrupted"
    """It was running when the build was interrupted."""


DONE = frozenset({State.CACHED, State.FETCHED, State.BUILT})
"""The states of a task that has a result."""


class TaskReport(NamedTuple):
    """What became of one task.

    `explanations` is never empty for a task that ran or was fetched, and always empty for a cached one. `seconds` and
    `bytes` are those of the run that made the result, whenever that was. `key` is None while an input is unknown.
    `document` is there for a task that was not found done.
    """

    name: str
    kind: str
    state: State
    explanations: tuple[Explanation, ...] = ()
    seconds: float | None = None
    bytes: int | None = None
    error: MaxbuildError | None = None
    key: TaskKey | None = None
    document: Document | None = None
    find_log: Callable[[TaskKey], Path] | None = None
    """Tells where what the newest run under a key wrote is kept, if anything is."""

    @property
    def log(self) -> Path | None:
        """Return the file with what its newest run wrote, where there is one."""
        path = self.find_log(self.key) if self.find_log is not None and self.key is not None else None
        return path if path is not None and path.exists() else None


@dataclass(frozen=True, slots=True)
class Report:
    """What became of all tasks, in the order the graph learned of them."""

    tasks: Sequence[TaskReport]
    results: Mapping[str, Result]
    task_graph: TaskGraph
    deferred: Sequence[Deferred]
    interrupted: bool = False

    @property
    def graph(self) -> Any:
        """Return a networkx DiGraph from producer to consumer, with each Task as attribute `task` of its name."""
        return self.task_graph.network

    def in_state(self, *states: State) -> list[TaskReport]:
        """Return the tasks that are in one of `states`."""
        return [task for task in self.tasks if task.state in states]

    @property
    def complete(self) -> bool:
        """Return whether every task has a result and nothing is unknown."""
        return not self.deferred and all(task.state in DONE for task in self.tasks)
