"""The graph: the tasks known so far and who consumes from whom. It only grows, and it never has a cycle."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from maxbuild.engine.records import Result
from maxbuild.engine.task import OutputOf, Task


class Deferred(NamedTuple):
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
    """The tasks by name, and who consumes from whom.

    The networkx graph, in which people and reports look around, is made when it is first asked for: a build that finds
    nothing to do has no use for it, and importing networkx takes longer than looking up a thousand tasks.
    """

    def __init__(self) -> None:
        """Start without tasks."""
        self._tasks: dict[str, Task] = {}
        self._producers: dict[str, Collection[str]] = {}
        self._consumers: dict[str, list[str]] = {}
        self._network: Any = None

    def add(self, tasks: Iterable[Task]) -> list[str]:
        """Add the tasks whose names are new and return these names, producers first.

        Raises ValueError when a task consumes what nobody makes, or when tasks wait for each other.
        """
        fresh = {task.name: task for task in tasks if task.name not in self._tasks}
        self._tasks.update(fresh)
        for name in fresh:
            self._consumers[name] = []
        for name, task in fresh.items():
            self._producers[name] = self._checked_producers(task)
            for producer in self._producers[name]:
                self._consumers[producer].append(name)
        self._network = None
        return self._in_order(fresh)

    @property
    def network(self) -> Any:
        """Return a networkx DiGraph from producer to consumer, with each Task as attribute `task` of its name."""
        if self._network is None:
            import networkx  # noqa: PLC0415 - it takes longer to import than most builds take to find nothing to do

            self._network = networkx.DiGraph()
            self._network.add_nodes_from((name, {"task": task}) for name, task in self._tasks.items())
            self._network.add_edges_from((name, other) for name, others in self._consumers.items() for other in others)
        return self._network

    def task(self, name: str) -> Task:
        """Return the task called `name`."""
        return self._tasks[name]

    def producers(self, name: str) -> Collection[str]:
        """Return the names of the tasks that `name` consumes from, each once."""
        return self._producers[name]

    def consumers(self, name: str) -> list[str]:
        """Return the names of the tasks that consume from `name`."""
        return self._consumers[name]

    def with_producers(self, names: Iterable[str]) -> set[str]:
        """Return those of `names` that are in the graph, and all they consume from, directly or not."""
        found: set[str] = set()
        left = [name for name in names if name in self._tasks]
        while left:
            name = left.pop()
            if name not in found:
                found.add(name)
                left.extend(self._producers[name])
        return found

    def __contains__(self, name: str) -> bool:
        """Return whether the graph has a task called `name`."""
        return name in self._tasks

    def _checked_producers(self, task: Task) -> Collection[str]:
        """Return the producers of `task`; ValueError where one is no task, or leaves no such output."""
        producers = {}
        for role, source in task.inputs.items():
            if isinstance(source, OutputOf):
                producer = producers[source.task] = self._tasks.get(source.task)
                if producer is None:
                    raise ValueError(
                        f"input `{role}` of task `{task.name}` is to come from `{source.task}`, which is no task"
                    )
                if not producer.declares(source.output):
                    raise ValueError(f"task `{source.task}` leaves no `{source.output}`, which `{task.name}` wants")
        return tuple(producers)

    def _in_order(self, fresh: Mapping[str, Task]) -> list[str]:
        """Return the names in `fresh`, producers first (Kahn 1962); ValueError where there is no such order."""
        missing = {name: sum([producer in fresh for producer in self._producers[name]]) for name in fresh}
        order = [name for name, count in missing.items() if count == 0]
        for name in order:  # it grows while we go through it
            for consumer in self._consumers[name]:
                if consumer in missing:
                    missing[consumer] -= 1
                    if missing[consumer] == 0:
                        order.append(consumer)
        if len(order) < len(fresh):
            raise ValueError(f"tasks wait for each other: {', '.join(self._cycle(set(fresh).difference(order)))}")
        return order

    def _cycle(self, stuck: set[str]) -> list[str]:
        """Return a cycle among `stuck`, all of which wait for one of them."""
        name, seen = min(stuck), []
        while name not in seen:
            seen.append(name)
            name = min(stuck.intersection(self._producers[name]))
        return seen[seen.index(name) :][::-1]
