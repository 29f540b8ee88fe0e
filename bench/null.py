"""null: a `warm` of the demo with nothing to do, against importing the libraries that it cannot do without.

Both are whole processes, taken in turn. What `warm` imports is read off `-X importtime`.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from bench.fixtures import DEMO_MANIFEST, MAXBUILD, warm
from bench.harness import (
    Figures,
    Goal,
    Table,
    child_environment,
    interleave,
    new_parser,
    run_bench,
    run_process,
    seconds_of_process,
)

_IMPORTS = "import typer, pydantic, yaml, networkx, diskcache"
_MOST = 1.5
_FORBIDDEN = frozenset({"torch", "transformers", "triton"})


def _measure(options: argparse.Namespace, folder: Path) -> Figures:
    store, output = options.store or folder / "store", folder / "packages"
    warm(DEMO_MANIFEST, output, store)
    environment = child_environment(MAXBUILD_STORE=store)
    arguments = ("warm", DEMO_MANIFEST, "--output", output)
    sides = {
        "null warm": (*MAXBUILD, *arguments),
        "its imports": (sys.executable, "-c", _IMPORTS),
        "python alone": (sys.executable, "-c", "pass"),
    }
    samples = interleave(
        {name: partial(seconds_of_process, command, environment) for name, command in sides.items()},
        options.repetitions,
        warm_ups=1,
    )
    base = samples["its imports"]
    rows = tuple((name, side.median, side.spread, side.ratio(base)) for name, side in samples.items())
    imported = _imports([sys.executable, "-X", "importtime", *MAXBUILD[1:], *arguments], environment)
    return Figures(
        (Table(("process", "seconds", "least to largest", "÷ its imports"), rows),),
        (_time_goal(samples["null warm"].ratio(base)), _imports_goal(imported)),
        (f"medians of {options.repetitions} interleaved repetitions; `its imports` is `{_IMPORTS}`",),
    )


def _time_goal(ratio: float) -> Goal:
    return Goal(f"a null warm ≤ {_MOST} times the imports it cannot avoid", f"{ratio:.2f} times", ratio <= _MOST)


def _imports_goal(imported: frozenset[str]) -> Goal:
    found = sorted(_FORBIDDEN & {name.partition(".")[0] for name in imported})
    what = "a null warm imports none of torch, transformers, triton"
    return Goal(what, ", ".join(found) if found else f"{len(imported)} modules, none of these", not found)


def _imports(command: list[str | Path], environment: dict[str, str]) -> frozenset[str]:
    """Return the modules that a process imports."""
    lines = run_process(command, environment).stderr.splitlines()
    names = [line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")]
    return frozenset(names[1:])  # the first line is the head of the table


def main() -> int:
    """Measure and print."""
    parser = new_parser("A null `warm` of the demo, against the imports it cannot avoid.")
    parser.add_argument("--repetitions", type=int, default=21, help="runs of each process")
    parser.add_argument("--store", type=Path, help="a store that may hold the demo's results already, to save building")
    options = parser.parse_args()
    if options.quick:
        options.repetitions = 3
    return run_bench("null", _measure, options)


if __name__ == "__main__":
    sys.exit(main())
