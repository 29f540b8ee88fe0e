"""targets: seconds to compile the demo for several targets at once, against the sum of one build for each.

Every build is a whole one, into a store that was empty before: traces, loads, compiles, packages. What the C++ compiler
takes is read off a front that times it, put in its place by `CXX`; Triton, Inductor and imports are the rest. No GPU is
visible.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.fixtures import DEMO_MANIFEST
from bench.harness import BenchError, Cell, Figures, Goal, Samples, Table, new_parser, run_bench, shown, talk
from maxbuild.engine import Report, Store, execute
from maxbuild.manifest import load_manifest
from maxbuild.plan import KINDS, make_plan

_TARGETS = ("cuda:sm_80", "cuda:sm_90", "cuda:sm_100", "cuda:sm_120", "hip:gfx90a", "hip:gfx942")
_MOST_SECOND = 0.5
_MOST_ALL = 3.0

_TIMED = """#!/bin/sh
begin=$(date +%s.%N)
"$@"
answer=$?
echo "$begin $(date +%s.%N)" >> "$(dirname "$0")/seconds"
exit $answer
"""


@dataclass(frozen=True, slots=True)
class _Build:
    """One build: its targets, seconds by the clock and, summed over tasks, of its compiles and their C++ compiler."""

    targets: Sequence[str]
    elapsed: float
    compiles: Sequence[float]
    compiler: float
    sizes: dict[str, int]
    """By target, the bytes of all its regions."""

    @property
    def compiled(self) -> float:
        return sum(self.compiles)


def _build(targets: Sequence[str], options: argparse.Namespace, folder: Path) -> _Build:
    """Build the demo for `targets` into a new store in `folder`."""
    manifest = load_manifest(DEMO_MANIFEST, targets=targets)
    with _timed_compiler(folder) as seconds_file, Store(folder / "store") as store:
        begin = time.monotonic()
        report = execute(make_plan(manifest), store, KINDS, scope="targets", jobs=options.jobs)
        elapsed = time.monotonic() - begin
        if not report.complete:
            raise BenchError("; ".join(str(task.error) for task in report.tasks if task.error))
        spans = [line.split() for line in seconds_file.read_text().splitlines()]
        compiler = sum(float(end) - float(start) for start, end in spans)
        compiles = [task.seconds or 0.0 for task in report.tasks if task.kind == "compile" and task.explanations]
        return _Build(targets, elapsed, compiles, compiler, _sizes(report, store, targets))


def _sizes(report: Report, store: Store, targets: Sequence[str]) -> dict[str, int]:
    sizes = {}
    for target in targets:
        digests = {
            report.results[task.name].outputs["artifact"]
            for task in report.tasks
            if task.kind == "compile" and task.name.endswith(f"@ {target}")
        }
        paths = [store.blob_path(digest) for digest in digests]
        sizes[target] = sum(path.stat().st_size for path in paths if path is not None)
    return sizes


@contextmanager
def _timed_compiler(folder: Path) -> Iterator[Path]:
    """Put a front before the C++ compiler that notes begin and end of each call in the file that is yielded."""
    folder.mkdir(parents=True)
    front = folder / "timed"
    front.write_text(_TIMED)
    front.chmod(0o755)
    seconds = folder / "seconds"
    seconds.touch()
    before = os.environ.get("CXX")
    os.environ["CXX"] = f"{front} {before or 'g++'}"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    try:
        yield seconds
    finally:
        del os.environ["CXX"]
        if before is not None:
            os.environ["CXX"] = before


def _measure(options: argparse.Namespace, folder: Path) -> Figures:
    singles: dict[str, list[_Build]] = {target: [] for target in options.targets}
    together: list[_Build] = []
    for repetition in range(options.repetitions):
        for target in options.targets:
            singles[target].append(_told(_build([target], options, folder / f"{repetition}-{target}")))
        together.append(_told(_build(options.targets, options, folder / f"{repetition}-all")))
    return _figures(options, singles, together)


def _told(build: _Build) -> _Build:
    talk(f"{', '.join(build.targets)}: {shown(build.elapsed)} s, compiles {shown(build.compiled)} s in all")
    return build


def _figures(options: argparse.Namespace, singles: dict[str, list[_Build]], together: list[_Build]) -> Figures:
    first = options.targets[0]
    base = Samples([build.elapsed for build in singles[first]])
    whole = Samples([build.elapsed for build in together])
    rows = [_row(target, builds, base, builds[0].sizes[target]) for target, builds in singles.items()]
    everything = _row("all in one", together, base, sum(together[0].sizes.values()))
    summed = Samples([sum(builds[n].elapsed for builds in singles.values()) for n in range(options.repetitions)])
    further = Samples([build.elapsed - alone for build, alone in zip(together, base.values, strict=True)])
    second = further.ratio(base) / max(1, len(options.targets) - 1)
    columns = ("build", "seconds", f"÷ {first}", "regions", "s per region", "C++ compiler", "KiB of regions")
    factor = whole.ratio(base)
    goals = (
        Goal(
            f"a further GPU target ≤ {_MOST_SECOND} times the first (mean of {len(options.targets) - 1})",
            f"{shown(second)} times",
            second <= _MOST_SECOND,
        ),
        Goal(
            f"six targets of the demo ≤ {_MOST_ALL:.0f} times one",
            f"{shown(factor)} times, {len(options.targets)} targets",
            factor <= _MOST_ALL if len(options.targets) == 6 else None,
        ),
    )
    notes = (
        f"all in one takes {shown(whole.ratio(summed))} times the sum of the builds for one target",
        f"medians of {options.repetitions} interleaved builds, {options.jobs} tasks at once; `seconds` is a whole build"
        " by the clock, `s per region` what a compile took while others ran, `C++ compiler` that program's share of it",
        "no header is compiled ahead: docs/design.md says what that would gain",
    )
    return Figures((Table(columns, (*rows, everything)),), goals, notes)


def _row(name: str, builds: list[_Build], base: Samples, size: int) -> tuple[Cell, ...]:
    elapsed = Samples([build.elapsed for build in builds])
    regions = len(builds[0].compiles)
    each = Samples([build.compiled / len(build.compiles) for build in builds]).median
    share = Samples([build.compiler / build.compiled for build in builds]).median
    return name, elapsed.median, elapsed.ratio(base), regions, each, f"{share:.0%}", size // 1024


def main() -> int:
    """Measure and print."""
    parser = new_parser("Seconds to compile the demo for several targets at once, and for each alone.")
    parser.add_argument("--targets", nargs="+", default=list(_TARGETS), help="targets; the first is the base")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="tasks at once")
    parser.add_argument("--repetitions", type=int, default=1, help="builds for each target, and of all")
    options = parser.parse_args()
    if options.quick:
        options.targets = options.targets[:2]
    return run_bench("targets", _measure, options)


if __name__ == "__main__":
    sys.exit(main())
