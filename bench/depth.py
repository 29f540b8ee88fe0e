"""depth: compile seconds against depth, with one region per kind of block and with the whole model as one region.

Each figure is the time that `warm` takes for the compiles of one model, each in a fresh process, as many at once as
there are CPUs (`--jobs`), into a store that was empty before; the sum over the processes stands beside it. Both ways go
through the same AOTInductor; the one differs from the other by `use_subgraphs` alone.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.fixtures import write_gemma_config, write_manifest
from bench.harness import BenchError, Cell, Figures, Goal, Samples, Table, new_parser, run_bench, shown, talk
from maxbuild.engine import Deferred, Result, Store, Task, execute
from maxbuild.manifest import load_manifest
from maxbuild.plan import KINDS, ManifestPlan, make_plan

_MOST_GROWTH = 1.3
_LEAST_GAIN = 4.0


class _NoWeights:
    """A manifest's plan without what needs weights: traces, compiles and builds."""

    def __init__(self, whole: ManifestPlan) -> None:
        self._whole = whole

    @property
    def tasks(self) -> Sequence[Task]:
        return _of_kinds(self._whole.tasks)

    def grow(self, results: Mapping[str, Result]) -> Sequence[Task]:
        return _of_kinds(self._whole.grow(results))

    def deferred(self, results: Mapping[str, Result]) -> Sequence[Deferred]:  # noqa: ARG002 - the protocol's signature
        return ()


def _of_kinds(tasks: Sequence[Task]) -> Sequence[Task]:
    return [task for task in tasks if task.kind in {"trace", "compile", "build"}]


@dataclass(frozen=True, slots=True)
class _Build:
    """Seconds of one build: of its trace, of compiles with the builds of libraries by the clock, and summed."""

    trace: float
    compile: float
    summed: float
    regions: int


def _build(layers: int, options: argparse.Namespace, folder: Path, *, use_subgraphs: bool) -> _Build:
    """Trace and compile a model of `layers` layers into a new store in `folder`."""
    model = write_gemma_config(layers, options.hidden, folder / "model")
    manifest = write_manifest(folder / "depth.yaml", "depth", model, use_subgraphs=use_subgraphs)
    with Store(folder / "store") as store:
        plan = _NoWeights(make_plan(load_manifest(manifest)))
        begin = time.monotonic()
        report = execute(plan, store, KINDS, scope="depth", jobs=options.jobs)
        elapsed = time.monotonic() - begin
    if not report.complete:
        raise BenchError("; ".join(str(task.error) for task in report.tasks if task.error))
    seconds = {task.name: task.seconds or 0.0 for task in report.tasks}
    trace = sum(seconds[task.name] for task in report.tasks if task.kind == "trace")
    regions = sum(task.kind == "compile" for task in report.tasks)
    return _Build(trace, elapsed - trace, sum(seconds.values()) - trace, regions)


def _measure(options: argparse.Namespace, folder: Path) -> Figures:
    regions: dict[int, list[_Build]] = {depth: [] for depth in options.depths}
    whole: dict[int, list[_Build]] = {depth: [] for depth in options.depths}
    for repetition in range(options.repetitions):
        for depth in options.depths if repetition % 2 == 0 else reversed(options.depths):
            place = folder / f"{repetition}-{depth}"
            regions[depth].append(_told(depth, "regions", _build(depth, options, place, use_subgraphs=True)))
            if repetition < options.whole_repetitions:
                place = folder / f"{repetition}-{depth}-whole"
                whole[depth].append(_told(depth, "whole", _build(depth, options, place, use_subgraphs=False)))
    return _figures(options, regions, whole)


def _told(depth: int, way: str, build: _Build) -> _Build:
    talk(f"{depth} layers, {way}: trace {shown(build.trace)} s, compile {shown(build.compile)} s")
    return build


def _figures(options: argparse.Namespace, regions: dict[int, list[_Build]], whole: dict[int, list[_Build]]) -> Figures:
    first, last = options.depths[0], options.depths[-1]
    compiled = {depth: Samples([build.compile for build in builds]) for depth, builds in regions.items()}
    rows = [_row(depth, regions[depth], whole[depth], compiled[depth].ratio(compiled[first])) for depth in regions]
    columns = (
        "layers",
        "regions",
        "trace s",
        "compile s",
        f"÷ {first} layers",
        "summed s",
        "whole: trace s",
        "whole: compile s",
        "whole ÷ regions",
    )
    growth = compiled[last].ratio(compiled[first])
    goals = [
        Goal(f"{last} layers ≤ {_MOST_GROWTH} times {first} layers", f"{shown(growth)} times", growth <= _MOST_GROWTH)
    ]
    gain = rows[-1][-1]
    goals.append(
        Goal(
            f"{last} layers ≥ {_LEAST_GAIN:.0f} times faster than the whole model",
            "-" if gain is None else f"{shown(gain)} times",
            gain >= _LEAST_GAIN if isinstance(gain, float) else None,
        )
    )
    notes = (
        f"Gemma 3 text of width {options.hidden} in float32, three sliding layers to one full; medians of"
        f" {options.repetitions} interleaved builds with regions and {options.whole_repetitions} of the whole model",
        f"compiles run {options.jobs} at once, each in a process of its own; the whole model is one process",
    )
    return Figures((Table(columns, tuple(rows)),), tuple(goals), notes)


def _row(depth: int, regions: list[_Build], whole: list[_Build], growth: float) -> tuple[Cell, ...]:
    trace, compiled = Samples([b.trace for b in regions]), Samples([b.compile for b in regions])
    summed = Samples([build.summed for build in regions]).median
    row: tuple[Cell, ...] = (depth, regions[0].regions, trace.median, compiled.median, growth, summed)
    if not whole:
        return (*row, None, None, None)
    alone = Samples([build.compile for build in whole])
    gain = alone.ratio(Samples(compiled.values[: len(whole)]))
    return (*row, Samples([build.trace for build in whole]).median, alone.median, gain)


def main() -> int:
    """Measure and print."""
    parser = new_parser("Compile seconds against depth, with regions and with the whole model as one region.")
    parser.add_argument("--depths", type=int, nargs="+", default=[4, 12, 48], help="layers; the first is the base")
    parser.add_argument("--hidden", type=int, default=256, help="width of the model")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="compiles at once")
    parser.add_argument("--repetitions", type=int, default=3, help="builds with regions at each depth")
    parser.add_argument("--whole-repetitions", type=int, default=1, help="builds of the whole model at each depth")
    options = parser.parse_args()
    if options.quick:
        options.depths, options.hidden, options.repetitions = [4, 8], 64, 1
    options.whole_repetitions = min(options.whole_repetitions, options.repetitions)
    return run_bench("depth", _measure, options)


if __name__ == "__main__":
    sys.exit(main())
