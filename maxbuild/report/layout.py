"""Where the boxes of a picture go: columns by generation, few crossings, each box near what it is tied to.

The method is the classic one for layered drawings (Sugiyama, Tagawa, Toda 1981): layers, an order in each by
barycentres, then coordinates; arrows over several columns go through a point in each column between.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import networkx

_SWEEPS = 12
_PASSES = 16

Item = str | tuple[str, str, int]
"""A box by its name, or the point at which an arrow passes a column: from, to, column."""


@dataclass(frozen=True, slots=True)
class Heights:
    """How much room things need, from top to top in the same unit: a box, and an arrow that passes."""

    box: float
    passing: float


@dataclass(frozen=True, slots=True)
class Layout:
    """Columns from left to right, and the middle of each thing in them, from 0 at the top of the highest."""

    columns: tuple[tuple[str, ...], ...]
    middles: Mapping[Item, float]
    routes: Mapping[tuple[str, str], tuple[Item, ...]]
    """For each arrow what it goes through, both ends included, one thing per column."""
    height: float


def lay_out(columns: Mapping[str, int], arrows: Iterable[tuple[str, str]], heights: Heights) -> Layout:
    """Place boxes, given the column of each; every arrow goes to a later column."""
    routes = {(a, b): _route(a, b, columns) for a, b in arrows}
    graph = networkx.DiGraph()
    layers: list[list[Item]] = [[] for _ in range(max(columns.values(), default=-1) + 1)]
    for name, column in columns.items():
        graph.add_node(name)
        layers[column].append(name)
    for (_, b), route in routes.items():
        networkx.add_path(graph, route)
        for item in route[1:-1]:
            layers[columns[b] if isinstance(item, str) else item[2]].append(item)
    _order(layers, graph)
    middles = _middles(layers, graph, heights)
    top = min((middles[layer[0]] - _room(layer[0], heights) / 2 for layer in layers if layer), default=0.0)
    bottom = max((middles[layer[-1]] + _room(layer[-1], heights) / 2 for layer in layers if layer), default=0.0)
    return Layout(
        columns=tuple(tuple(item for item in layer if isinstance(item, str)) for layer in layers),
        middles={item: middle - top for item, middle in middles.items()},
        routes=routes,
        height=bottom - top,
    )


def generations(names: Iterable[str], arrows: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Return for each box the length of the longest way to it."""
    graph = networkx.DiGraph()
    graph.add_nodes_from(names)
    graph.add_edges_from(arrows)
    layers = networkx.topological_generations(graph)
    found = {str(name): index for index, layer in enumerate(layers) for name in layer}
    return {name: found[name] for name in graph}


def _route(a: str, b: str, columns: Mapping[str, int]) -> tuple[Item, ...]:
    return (a, *((a, b, column) for column in range(columns[a] + 1, columns[b])), b)


def _order(layers: list[list[Item]], graph: networkx.DiGraph) -> None:
    """Order each layer by the mean place of its neighbours in the one before, then in the one after, and so on."""
    for sweep in range(_SWEEPS):
        forward = sweep % 2 == 0
        neighbours = graph.predecessors if forward else graph.successors
        sequence = range(1, len(layers)) if forward else range(len(layers) - 2, -1, -1)
        for index in sequence:
            other = layers[index - 1 if forward else index + 1]
            places = {item: place / max(1, len(other) - 1) for place, item in enumerate(other)}
            own = {item: place / max(1, len(layers[index]) - 1) for place, item in enumerate(layers[index])}
            barycentres = {item: _mean([places[n] for n in neighbours(item)], own[item]) for item in layers[index]}
            layers[index].sort(key=barycentres.__getitem__)


def _middles(layers: Sequence[Sequence[Item]], graph: networkx.DiGraph, heights: Heights) -> dict[Item, float]:
    """Return the middle of each thing: pulled to its neighbours, pushed apart by what stands beside it."""
    middles: dict[Item, float] = {}
    for layer in layers:
        total, at = sum(_room(item, heights) for item in layer), 0.0
        for item in layer:
            middles[item] = at + _room(item, heights) / 2 - total / 2
            at += _room(item, heights)
    for index in range(_PASSES):
        for layer in layers if index % 2 == 0 else reversed(layers):
            wanted = [
                _mean([middles[n] for n in (*graph.predecessors(item), *graph.successors(item))], middles[item])
                for item in layer
            ]
            rooms = [_room(item, heights) for item in layer]
            middles.update(zip(layer, spread(wanted, rooms), strict=True))
    return middles


def spread(wanted: Sequence[float], rooms: Sequence[float]) -> list[float]:
    """Return places in the given order, each thing with its room, as near to the wanted ones as can be.

    Least squares under order: with the rooms taken off it is isotonic regression, solved by pooling neighbours.
    """
    offsets = [0.0]
    for before, after in pairwise(rooms):
        offsets.append(offsets[-1] + (before + after) / 2)
    pools: list[tuple[float, int]] = []
    for want, offset in zip(wanted, offsets, strict=False):
        mean, count = want - offset, 1
        while pools and pools[-1][0] > mean:
            other, others = pools.pop()
            mean, count = (mean * count + other * others) / (count + others), count + others
        pools.append((mean, count))
    flat = [mean for mean, count in pools for _ in range(count)]
    return [place + offset for place, offset in zip(flat, offsets, strict=False)]


def _room(item: Item, heights: Heights) -> float:
    return heights.box if isinstance(item, str) else heights.passing


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
