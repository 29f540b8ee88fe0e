"""targets: seconds to compile the demo for several targets at once, against the sum of one build for each.

Every build is a whole one, into a store that was empty before: traces, loads, compiles (Inductor and Triton), builds
(the C++ compiler), packages. No GPU is visible.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.fixtures import DEMO_MANIFEST
from bench.harness import BenchError, Cell, Figures, Goal, Samples, Table, new_parser, run_bench, shown, talk
from maxbuild.engine import Report, State, Store, execute
from maxbuild.manifest import load_manifest
from maxbuild.plan import KINDS, make_plan

_TARGETS = ("cuda:sm_80", "cuda:sm_90", "cuda:sm_100", "cuda:sm_120", "hip:gfx90a", "hip:gfx942")
_MOST_SECOND = 0.5
_MOST_ALL = 3.0


@dataclass(frozen=True, slots=True)
class _Build:
    """One build of everything: its targets, seconds by the clock, and those of its compiles and builds that ran."""

    targets: Sequence[str]
    elapsed: float
    compiles: Sequence[float]
    builds: Sequence[float]
    sizes: dict[str, int]
    """By target, the bytes of all its regions."""

    @property
    def compiled(self) -> float:
        return sum(self.compiles) + sum(self.builds)

    @staticmethod
    def mean(seconds: Sequence[float]) -> float:
        return sum(seconds) / max(1, len(seconds))


def _build(targets: Sequence[str], options: argparse.Namespace, folder: Path) -> _Build:
    """Build the demo for `targets` into a new store in `folder`."""
    manifest = load_manifest(DEMO_MANIFEST, targets=targets)
    with Store(folder / "store") as store:
        begin = time.monotonic()
        report = execute(make_plan(manifest), store, KINDS, scope="targets", jobs=options.jobs)
        elapsed = time.monotonic() - begin
        if not report.complete:
            raise BenchError("; ".join(str(task.error) for task in report.tasks if task.error))
        compiles, builds = (_seconds(report, kind) for kind in ("compile", "build"))
        return _Build(targets, elapsed, compiles, builds, _sizes(report, store, targets))


def _seconds(report: Report, kind: str) -> Sequence[float]:
    """Return what each task of a kind took that ran; those that found another's result did not."""
    return [task.seconds for task in report.tasks if task.kind == kind and task.state is State.BUILT and task.seconds]


def _sizes(report: Report, store: Store, targets: Sequence[str]) -> dict[str, int]:
    sizes = {}
    for target in targets:
        results = [
            report.results[task.name] for task in report.tasks if task.name.partition(", ")[0].endswith(f"@ {target}")
        ]
        digests = {result.outputs[half] for result in results for half in ("code", "library") if half in result.outputs}
        paths = [store.blob_path(digest) for digest in digests]
        sizes[target] = sum(path.stat().st_size for path in paths if path is not None)
    return sizes


def _measure(options: argparse.Namespace, folder: Path) -> Figures:
    singles: dict[str, list[_Build]] = {target: [] for target in options.alone}
    together: list[_Build] = []
    for repetition in range(options.repetitions):
        for target in options.alone:
            singles[target].append(_told(_build([target], options, folder / f"{repetition}-{target}")))
        together.append(_told(_build(options.targets, options, folder / f"{repetition}-all")))
    return _figures(options, singles, together)


def _told(build: _Build) -> _Build:
    talk(f"{', '.join(build.targets)}: {shown(build.elapsed)} s, compiles {shown(build.compiled)} s in all")
    return build


def _figures(options: argparse.Namespace, singles: dict[str, list[_Build]], together: list[_Build]) -> Figures:
    first = options.alone[0]
    base = Samples([build.elapsed for build in singles[first]])
    whole = Samples([build.elapsed for build in together])
    rows = [_row(target, builds, base, builds[0].sizes[target]) for target, builds in singles.items()]
    everything = _row("all in one", together, base, sum(together[0].sizes.values()))
    summed = Samples([sum(builds[n].elapsed for builds in singles.values()) for n in range(options.repetitions)])
    whole_sum = f"all in one takes {shown(whole.ratio(summed))} times the sum of the builds for one target"
    further = Samples([build.elapsed - alone for build, alone in zip(together, base.values, strict=True)])
    second = further.ratio(base) / max(1, len(options.targets) - 1)
    columns = (
        "build",
        "seconds",
        f"÷ {first}",
        "compiles",
        "s each",
        "builds",
        "s each",
        "C++ compiler",
        "KiB of regions",
    )
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
        *([whole_sum] if len(singles) == len(options.targets) else []),
        f"medians of {options.repetitions} interleaved builds, {options.jobs} tasks at once; `seconds` is a whole build"
        " by the clock, `s each` what a compile or a build took while others ran, `C++ compiler` the share of builds",
        "a build whose C++ code is another's, or another target's, does not run: it has that one's result",
    )
    return Figures((Table(columns, (*rows, everything)),), goals, notes)


def _row(name: str, builds: list[_Build], base: Samples, size: int) -> tuple[Cell, ...]:
    elapsed = Samples([build.elapsed for build in builds])
    compiles = Samples([build.mean(build.compiles) for build in builds]).median
    libraries = Samples([build.mean(build.builds) for build in builds]).median
    share = Samples([sum(build.builds) / build.compiled for build in builds]).median
    counts = len(builds[0].compiles), len(builds[0].builds)
    return (
        *(name, elapsed.median, elapsed.ratio(base), counts[0], compiles, counts[1], libraries),
        *(f"{share:.0%}", size // 1024),
    )


def main() -> int:
    """Measure and print."""
    parser = new_parser("Seconds to compile the demo for several targets at once, and for each alone.")
    parser.add_argument("--targets", nargs="+", default=list(_TARGETS), help="targets that are built in one run")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="tasks at once")
    parser.add_argument("--repetitions", type=int, default=1, help="builds for each target, and of all")
    parser.add_argument("--alone", nargs="+", help="of these, what is also built alone (default: each); the base first")
    options = parser.parse_args()
    if options.quick:
        options.targets = options.targets[:2]
    options.alone = options.alone or options.targets
    return run_bench("targets", _measure, options)


if __name__ == "__main__":
    sys.exit(main())
