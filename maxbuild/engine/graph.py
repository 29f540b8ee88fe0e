"""The graph: the tasks known so far and who consumes from whom. It only grows, and it never has a cycle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import networkx

from maxbuild.engine.records import Result
from maxbuild.engine.task import OutputOf, Task


@dataclass(frozen=True, slots=True)
class Deferred:
    """Work that cannot be known yet: what it is, in words, and the task whose result will tell."""

    after: str
    what: str


class Plan(Protocol):
    """What is to be built. `grow` and `deferred` depend on nothing but the results they are given, by task name."""

    @property
    def tasks(self) -> Sequence[Task]:
        """Return the tasks known from the start."""

    def grow(self, results: Mapping[str, Result]) -> Sequence[Task]:
        """Return the tasks that `results` make known; those of a name the graph has already are passed over."""

    def deferred(self, results: Mapping[str, Result]) -> Sequence[Deferred]:
        """Return what `results` do not make known yet."""


class TaskGraph:
    """The tasks by name, in a networkx graph whose edges go from producer to consumer."""

    def __init__(self) -> None:
        """Start without tasks."""
        self.network = networkx.DiGraph()

    def add(self, tasks: Iterable[Task]) -> list[str]:
        """Add the tasks whose names are new and return these names, producers first.

        Raises ValueError when a task consumes what nobody makes, or when tasks wait for each other.
        """
        fresh = {task.name: task for task in tasks if task.name not in self.network}
        for task in fresh.values():
            self.network.add_node(task.name, task=task)
        for task in fresh.values():
            for role, source in task.inputs.items():
                if isinstance(source, OutputOf):
                    self._connect(task, role, source)
        try:
            return [str(name) for name in networkx.topological_sort(self.network.subgraph(fresh))]
        except networkx.NetworkXUnfeasible:
            cycle = [edge[0] for edge in networkx.find_cycle(self.network)]
            raise ValueError(f"tasks wait for each other: {', '.join(cycle)}") from None

    def task(self, name: str) -> Task:
        """Return the task called `name`."""
        return cast("Task", self.network.nodes[name]["task"])

    def consumers(self, name: str) -> list[str]:
        """Return the names of the tasks that consume from `name`."""
        return list(self.network.successors(name))

    def with_producers(self, names: Iterable[str]) -> set[str]:
        """Return those of `names` that are in the graph, and all they consume from, directly or not."""
        wanted = {name for name in names if name in self.network}
        return wanted.union(*(networkx.ancestors(self.network, name) for name in wanted))

    def __contains__(self, name: str) -> bool:
        """Return whether the graph has a task called `name`."""
        return name in self.network

    def __iter__(self) -> Iterable[str]:
        """Return the names of the tasks, in the order they were added."""
        return iter(list(self.network))

    def _connect(self, task: Task, role: str, source: OutputOf) -> None:
        if source.task not in self.network:
            raise ValueError(f"input `{role}` of task `{task.name}` is to come from `{source.task}`, which is no task")
        if not self.task(source.task).declares(source.output):
            raise ValueError(f"task `{source.task}` leaves no `{source.output}`, which `{task.name}` wants")
        self.network.add_edge(source.task, task.name)
