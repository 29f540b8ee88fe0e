"""The graphs that bench/engine builds: layered, the same for every tool, and told by their size alone.

Half the tasks are leaves, which read one small source file each; three layers of middle tasks have two to four inputs,
neighbours in the layer before; one task in a thousand gathers what the last layer left. Every task joins its inputs,
so what a build must leave is known without building, and the edit of a leaf reaches about ten tasks at any size.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

LEAST = 20
"""Tasks of the smallest graph that has all layers."""
_GATHERED = 1000
"""Tasks for each one that gathers."""
_MIDDLE_LAYERS = 3


class Node(NamedTuple):
    """One task: its name is also that of the file it leaves. A leaf has a `source`, every other task has `inputs`."""

    name: str
    source: str | None
    inputs: tuple[str, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """Return the names of the files that the task joins, in order."""
        return self.inputs if self.source is None else (self.source,)


@dataclass(frozen=True, slots=True)
class Dag:
    """A graph of tasks, producers first."""

    nodes: tuple[Node, ...]

    @classmethod
    def of_size(cls, size: int) -> Dag:
        """Return the graph of `size` tasks; ValueError for fewer than LEAST."""
        if size < LEAST:
            raise ValueError(f"a graph of all layers takes at least {LEAST} tasks")
        gathering = max(1, size // _GATHERED)
        layers = [_leaves((size - gathering) // 2)]
        left = size - gathering - len(layers[0])
        for number in range(1, _MIDDLE_LAYERS + 1):
            width = left if number == _MIDDLE_LAYERS else left // 2
            layers.append(_middle(number, width, layers[-1]))
            left -= width
        layers.append(_gathering(gathering, layers[-1]))
        return cls(tuple(node for layer in layers for node in layer))

    @classmethod
    def read(cls, path: Path) -> Dag:
        """Read the graph that `write` wrote."""
        return cls(tuple(Node(name, source, tuple(inputs)) for name, source, inputs in json.loads(path.read_bytes())))

    def write(self, path: Path) -> None:
        """Write the graph as JSON: a list of `[name, source or null, inputs]`."""
        path.write_text(json.dumps(self.nodes, separators=(",", ":")))

    @property
    def leaves(self) -> list[Node]:
        """Return the tasks that read a source file."""
        return [node for node in self.nodes if node.source is not None]

    @property
    def tops(self) -> list[Node]:
        """Return the tasks that nobody consumes from."""
        consumed = {name for node in self.nodes for name in node.inputs}
        return [node for node in self.nodes if node.name not in consumed]

    def reached_from(self, leaf: str) -> frozenset[str]:
        """Return the tasks that an edit of the source of `leaf` reaches, `leaf` among them."""
        reached = {leaf}
        for node in self.nodes:
            if not reached.isdisjoint(node.inputs):
                reached.add(node.name)
        return frozenset(reached)

    def contents(self, text_of: Callable[[str], str]) -> dict[str, str]:
        """Return what every task must leave, by name and producers first, when each source holds `text_of` its name."""
        made: dict[str, str] = {}
        for node in self.nodes:
            parts: Iterable[str] = (made[name] for name in node.inputs)
            made[node.name] = "".join(parts) if node.source is None else text_of(node.source)
        return made


def source_text(source: str, edition: int = 0) -> str:
    """Return what the source file `source` holds in one edition; no two are alike."""
    return f"{source} in its edition {edition}\n"


def _leaves(width: int) -> list[Node]:
    return [Node(f"leaf{index}", f"source{index}", ()) for index in range(width)]


def _middle(number: int, width: int, below: list[Node]) -> list[Node]:
    """Return a layer in which every task has two to four neighbours below, and everything below is consumed."""
    nodes = []
    for index in range(width):
        first = index * len(below) // width
        names = [below[(first + step) % len(below)].name for step in range(2 + index % 3)]
        nodes.append(Node(f"middle{number}_{index}", None, tuple(names)))
    return nodes


def _gathering(width: int, below: list[Node]) -> list[Node]:
    """Return tasks that share out all that lies below."""
    bounds = [index * len(below) // width for index in range(width + 1)]
    parts = [below[begin:end] for begin, end in pairwise(bounds)]
    return [Node(f"gather{index}", None, tuple(node.name for node in part)) for index, part in enumerate(parts)]
