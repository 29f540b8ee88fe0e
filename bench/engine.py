"""engine: what is left to pay when there is nothing, or next to nothing, to do; beside other build tools.

Every figure is a whole process, which reads its description of the graph, finds out what is to be done and does it.
Only null builds that ran nothing, and builds after an edit that ran exactly what it reaches, are counted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeAlias

from bench.engine_blob import measure_blob
from bench.engine_dag import Dag
from bench.engine_peers import find_tools
from bench.engine_sites import Site, middle_leaf
from bench.engine_tools import PEERS, Tool, TooSlow, quiet_environment
from bench.fixtures import MAXBUILD
from bench.harness import (
    BenchError,
    Cell,
    Figures,
    Goal,
    Samples,
    Table,
    interleave,
    new_parser,
    run_bench,
    run_process,
    seconds_of_process,
    shown,
    talk,
)

_SIZES = (100, 1_000, 10_000, 100_000)
_MOST_SECONDS = {1_000: 0.5, 10_000: 1.2}
_LINEAR = (10_000, 100_000, 12.0)
_MOST_HELP = 0.1
_OURS = "maxbuild"
_NULL = "nothing to do"
_EDITED = "one leaf edited"


_Key: TypeAlias = tuple[str, str]
"""A tool, and what there is to do."""


@dataclass(frozen=True, slots=True)
class _Missing:
    """Why there is no figure: what the table shows in its place, and the reason."""

    shown: str
    why: str


@dataclass(slots=True)
class _Measured:
    """What one graph took, or why that is not known. `reached`: the tasks that the edit of one leaf reaches."""

    size: int
    reached: int
    found: dict[_Key, Samples | _Missing] = field(default_factory=dict)

    def median(self, key: _Key) -> float | None:
        """Return the median of the seconds; None where there is no figure."""
        samples = self.found.get(key)
        return samples.median if isinstance(samples, Samples) else None

    def ratio(self, tool: str, doing: str) -> float | None:
        """Return how many times our seconds `tool` took; None where there is no figure."""
        match self.found.get((tool, doing)), self.found.get((_OURS, doing)):
            case Samples() as mine, Samples() as ours:
                return mine.ratio(ours) if len(mine.values) == len(ours.values) else mine.median / ours.median
        return None


def _measure(options: argparse.Namespace, folder: Path) -> Figures:
    place: Path = (options.folder or folder).absolute()
    place.mkdir(parents=True, exist_ok=True)
    tools, notes = find_tools((options.peers or place / "peers").absolute(), options.tools)
    graphs = _measure_graphs(tools, options, place)
    help_table, help_goal = _measure_help(options)
    parts = [Figures(tuple(_table(graph, tools) for graph in graphs), _goals(graphs, tools))]
    parts.append(Figures((help_table,), (help_goal,)))
    if options.blob_gib:
        blob = folder / "blob"
        blob.mkdir()
        parts.append(measure_blob(options, blob))
    about = (
        f"medians of {options.repetitions} interleaved repetitions; a build that takes more than {options.once:.0f} s "
        f"is measured once, one that takes more than {options.limit:.0f} s is stopped",
        *(f"{tool.name} {tool.version()}".rstrip() + f": {tool.how}" for tool in tools),
    )
    parts.append(Figures((), (), (*about, *_missing(graphs), *notes)))
    return Figures(
        tuple(table for part in parts for table in part.tables),
        tuple(goal for part in parts for goal in part.goals),
        tuple(note for part in parts for note in part.notes),
    )


def _measure_graphs(tools: Sequence[Tool], options: argparse.Namespace, folder: Path) -> list[_Measured]:
    graphs: list[_Measured] = []
    for size in sorted(options.sizes):
        talk(f"{size} tasks")
        dag = Dag.of_size(size)
        graph = _Measured(size, len(dag.reached_from(middle_leaf(dag).name)))
        sides: dict[_Key, Callable[[], float]] = {}
        for tool in tools:
            site = Site(tool, dag, folder / f"{_place(tool)}-{size}", options.limit)
            sides |= _try(site, graph, graphs[-1] if graphs else None, options)
        measured = interleave({f"{name}, {doing}": side for (name, doing), side in sides.items()}, options.repetitions)
        graph.found.update(zip(sides, measured.values(), strict=True))
        graphs.append(graph)
    return graphs


def _place(tool: Tool) -> str:
    """Return the name under which a tool's graphs lie: our engine builds in one place in all its settings."""
    return tool.name.partition(",")[0]


def _try(
    site: Site, graph: _Measured, smaller: _Measured | None, options: argparse.Namespace
) -> dict[_Key, Callable[[], float]]:
    """Do once all that one tool may do in time, and return what is worth repeating."""
    again: dict[_Key, Callable[[], float]] = {}
    ready = False
    for doing, side in ((_NULL, site.null), (_EDITED, site.edited)):
        key = (site.tool.name, doing)
        hopeless = _hopeless(key, graph, smaller, options.limit)
        if isinstance(graph.found.get((site.tool.name, _NULL)), _Missing):
            hopeless = _Missing("not tried", f"{_NULL} takes too long")
        if hopeless is not None:
            graph.found[key] = hopeless
            continue
        try:
            if not ready:
                site.prepare(options.prepare_limit)
            ready = True
            seconds = side()
        except TooSlow as error:
            talk(f"  {site.tool.name}, {doing}: {error}")
            graph.found[key] = _Missing(f"> {options.limit:.0f}" if ready else "not ready", str(error))
            again.clear()  # nothing is built here any more
            continue
        talk(f"  {site.tool.name}, {doing}: {shown(seconds)} at first")
        graph.found[key] = Samples([seconds])
        if seconds <= options.once:
            again[key] = side
    return again


def _hopeless(key: _Key, graph: _Measured, smaller: _Measured | None, limit: float) -> _Missing | None:
    """Return why not even to try: when the smaller graph took so long that this one would take twice the limit."""
    if smaller is None:
        return None
    seconds = smaller.median(key)
    if seconds is None:
        return _Missing("not tried", f"{smaller.size:,} tasks took too long")
    if seconds * graph.size / smaller.size > 2 * limit:
        return _Missing("not tried", f"{smaller.size:,} tasks took {shown(seconds)} s")
    return None


def _table(graph: _Measured, tools: Sequence[Tool]) -> Table:
    def cells(tool: str, doing: str) -> tuple[Cell, ...]:
        match graph.found.get((tool, doing)):
            case Samples() as samples:
                return samples.median, samples.spread, graph.ratio(tool, doing)
            case _Missing(shown=instead):
                return instead, None, None
        return None, None, None

    columns = ("tool", "null s", "least to largest", f"÷ {_OURS}", "edit s", "least to largest of edit", "edit ÷ ours")
    rows = tuple((tool.name, *cells(tool.name, _NULL), *cells(tool.name, _EDITED)) for tool in tools)
    return Table(columns, rows, f"{graph.size:,} tasks; an edit of one leaf reaches {graph.reached}")


def _missing(graphs: Sequence[_Measured]) -> list[str]:
    return [
        f"{tool}, {graph.size:,} tasks, {doing}: {missing.shown}, {missing.why}"
        for graph in graphs
        for (tool, doing), missing in graph.found.items()
        if isinstance(missing, _Missing)
    ]


def _goals(graphs: Sequence[_Measured], tools: Sequence[Tool]) -> tuple[Goal, ...]:
    by_size = {graph.size: graph for graph in graphs}
    goals = [_seconds_goal(by_size.get(size), size, most) for size, most in _MOST_SECONDS.items()]
    goals += [_peers_goal(graphs, tools, doing) for doing in (_NULL, _EDITED)]
    return (*goals, _linear_goal(by_size))


def _seconds_goal(graph: _Measured | None, size: int, most: float) -> Goal:
    seconds = graph.median((_OURS, _NULL)) if graph else None
    what = f"{size:,} tasks with nothing to do ≤ {most} s"
    return Goal(what, "-" if seconds is None else f"{seconds:.2f} s", None if seconds is None else seconds <= most)


def _peers_goal(graphs: Sequence[_Measured], tools: Sequence[Tool], doing: str) -> Goal:
    """Judge by the peer in Python that comes nearest; one that was not done in time is no near one."""
    what = f"{doing}: faster than every peer in Python at every size"
    found = [
        (ratio, tool.name, graph.size)
        for graph in graphs
        for tool in tools
        if tool.peer and (ratio := graph.ratio(tool.name, doing)) is not None
    ]
    if not found:
        return Goal(what, "-", None)
    ratio, name, size = min(found)
    return Goal(what, f"the nearest is {name} at {size:,} tasks, with {ratio:.2f} times our seconds", ratio > 1)


def _linear_goal(by_size: Mapping[int, _Measured]) -> Goal:
    small, large, most = _LINEAR
    what = f"{large:,} tasks with nothing to do ≤ {most:.0f} times {small:,}"
    seconds = [by_size[size].median((_OURS, _NULL)) if size in by_size else None for size in (small, large)]
    if seconds[0] is None or seconds[1] is None:
        return Goal(what, "-", None)
    ratio = seconds[1] / seconds[0]
    return Goal(what, f"{ratio:.1f} times", ratio <= most)


def _measure_help(options: argparse.Namespace) -> tuple[Table, Goal]:
    environment = quiet_environment()
    sides = {"maxbuild --help": (*MAXBUILD, "--help"), "python alone": (sys.executable, "-c", "pass")}
    run_process(sides["maxbuild --help"], environment)
    _check_bytecode(environment)
    samples = interleave(
        {name: partial(seconds_of_process, command, environment) for name, command in sides.items()},
        4 * options.repetitions + 1,
        warm_ups=1,
    )
    base = samples["python alone"]
    rows = tuple((name, side.median, side.spread, side.ratio(base)) for name, side in samples.items())
    seconds = samples["maxbuild --help"].median
    goal = Goal(f"`maxbuild --help` ≤ {_MOST_HELP} s", f"{seconds:.3f} s", seconds <= _MOST_HELP)
    return Table(("process", "seconds", "least to largest", "÷ python alone"), rows), goal


def _check_bytecode(environment: Mapping[str, str]) -> None:
    """Raise unless modules of ours are loaded as bytecode from their second time on, as they are for everybody."""
    question = "import os, maxbuild.cli as it; print(os.path.exists(it.__cached__))"
    if run_process((sys.executable, "-c", question), environment).stdout.strip() != "True":
        raise BenchError("python keeps no bytecode of this checkout, so start-up would measure its compiler")


def _parser() -> argparse.ArgumentParser:
    parser = new_parser("Null and nearly null builds of generated graphs, and one large blob.")
    peers = [peer.name for peer in PEERS]
    parser.add_argument("--sizes", type=int, nargs="*", default=list(_SIZES), help="tasks of the graphs")
    parser.add_argument("--tools", nargs="*", default=peers, choices=peers, help="the tools to set beside ours")
    parser.add_argument("--repetitions", type=int, default=5, help="builds of each kind by each tool")
    parser.add_argument("--limit", type=float, default=300, help="seconds that a build may take")
    parser.add_argument("--prepare-limit", type=float, default=1800, help="seconds to build everything at first")
    parser.add_argument("--once", type=float, default=45, help="seconds beyond which a build is not repeated")
    parser.add_argument("--peers", type=Path, help="an environment with the peers; made where it does not exist")
    parser.add_argument("--folder", type=Path, help="where graphs are built, and stay: a second run is ready at once")
    parser.add_argument("--blob-gib", type=float, default=4, help="size of the blob; 0: none")
    parser.add_argument("--blob-repetitions", type=int, default=3, help="how often the blob is published")
    return parser


def main() -> int:
    """Measure and print."""
    options = _parser().parse_args()
    if options.quick:
        options.sizes = [size for size in options.sizes if size <= 1_000] or options.sizes
        options.repetitions, options.blob_gib, options.blob_repetitions = 2, min(options.blob_gib, 0.25), 1
    return run_bench("engine", _measure, options)


if __name__ == "__main__":
    sys.exit(main())
