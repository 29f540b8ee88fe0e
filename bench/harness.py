"""What the benches share: interleaved measuring of whole processes, medians, and the report they all print.

Invariant: figures that are compared come from the same run, taken in turn, so that what slows the machine slows all of
them. stdout gets the report and nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TypeAlias

from bench.machine import ROOT, Machine, describe_machine

Cell: TypeAlias = str | float | int | None
Command: TypeAlias = Sequence[str | Path]

_TAIL = 2000
"""Characters of a failed process's stderr that its error shows."""


class BenchError(Exception):
    """A bench could not measure: a process failed, or what it compares is not alike."""


@dataclass(frozen=True, slots=True)
class Table:
    """Figures by row. Each column says its unit in its name."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    title: str = ""


@dataclass(frozen=True, slots=True)
class Goal:
    """What was to be reached and what was found; `reached` is None where this run did not measure it."""

    what: str
    found: str
    reached: bool | None

    def __str__(self) -> str:
        """Return one line for people."""
        judgement = {True: "reached", False: "missed", None: "not measured"}[self.reached]
        return f"{judgement}: {self.what} ({self.found})"


@dataclass(frozen=True, slots=True)
class Figures:
    """What a bench found. notes: what one must know to read the tables."""

    tables: tuple[Table, ...]
    goals: tuple[Goal, ...] = ()
    notes: tuple[str, ...] = ()


Measure: TypeAlias = Callable[[argparse.Namespace, Path], Figures]
"""A bench: from its options and an empty folder, which is removed afterwards, to its figures."""


@dataclass(frozen=True, slots=True)
class Samples:
    """What one side took, in seconds or tokens per second, in the order of the repetitions."""

    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Return the median."""
        return median(self.values)

    @property
    def spread(self) -> str:
        """Return the least and the largest value, for people."""
        return f"{shown(min(self.values))} to {shown(max(self.values))}"

    def ratio(self, other: Samples) -> float:
        """Return the median of the ratios to `other` within each repetition: what slowed both drops out."""
        return median(mine / theirs for mine, theirs in zip(self.values, other.values, strict=True))


def interleave(sides: Mapping[str, Callable[[], float]], repetitions: int, warm_ups: int = 0) -> dict[str, Samples]:
    """Measure every side once per repetition, in turn; every second repetition goes through them backwards."""
    samples = {name: Samples() for name in sides}
    for repetition in range(-warm_ups, repetitions):
        talk(f"repetition {repetition + 1} of {repetitions}" if repetition >= 0 else "warming up")
        for name in reversed(list(sides)) if repetition % 2 else sides:
            value = sides[name]()
            talk(f"  {name}: {shown(value)}")
            if repetition >= 0:
                samples[name].values.append(value)
    return samples


def child_environment(**changes: str | Path) -> dict[str, str]:
    """Return an environment in which children find this checkout, ask no network and are like one another."""
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    quiet = {"NO_COLOR": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "PYTHONWARNINGS": "ignore"}
    quiet["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    changed = {name: str(value) for name, value in changes.items()}
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), **quiet, **changed}


def run_process(
    command: Command, environment: Mapping[str, str], answers: Collection[int] = (0,)
) -> subprocess.CompletedProcess[str]:
    """Run `command` to its end; BenchError with the tail of its stderr where its exit code is none of `answers`."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in answers:
        raise BenchError(f"{_spelled(command)} exited with {done.returncode}:\n{done.stderr[-_TAIL:]}")
    return done


def seconds_of_process(command: Command, environment: Mapping[str, str]) -> float:
    """Return how long `command` takes, from its start until it is gone."""
    begin = time.perf_counter()
    run_process(command, environment)
    return time.perf_counter() - begin


def seconds_to_output(command: Command, environment: Mapping[str, str]) -> tuple[float, str]:
    """Return how long `command` takes until the first byte on its stdout, and all that it writes there."""
    with tempfile.TemporaryFile() as errors:
        begin = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors, bufsize=0)
        assert process.stdout is not None
        first = process.stdout.read(1)
        seconds = time.perf_counter() - begin
        text = (first + process.stdout.read()).decode()
        if process.wait() or not first:
            errors.seek(0)
            raise BenchError(f"{_spelled(command)} failed:\n{errors.read()[-_TAIL:].decode(errors='replace')}")
    return seconds, text


def talk(text: str) -> None:
    """Say on stderr what goes on: benches take minutes."""
    print(text, file=sys.stderr, flush=True)


def new_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options that all benches share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON document")
    form.add_argument("--markdown", action="store_true", help="print a section for docs/benchmarks.md")
    parser.add_argument("--quick", action="store_true", help="small sizes, few repetitions: a try, not a measurement")
    return parser


def run_bench(name: str, measure: Measure, options: argparse.Namespace) -> int:
    """Measure and print the report; return the exit code, which is 0 also where a goal is missed: that is a finding."""
    machine = describe_machine()
    begin = time.perf_counter()
    try:
        with tempfile.TemporaryDirectory(prefix=f"maxbuild-{name}-") as folder:
            figures = measure(options, Path(folder))
    except BenchError as error:
        talk(f"error: {error}")
        return 1
    talk(f"took {time.perf_counter() - begin:.0f} s\n")
    if options.json:
        print(_as_json(name, machine, options, figures))
    elif options.markdown:
        print(_as_markdown(name, machine, figures))
    else:
        print(_as_text(name, machine, figures))
    return 0


def shown(cell: Cell) -> str:
    """Return a figure with three digits that matter; what is not there is a dash."""
    match cell:
        case None:
            return "-"
        case float():
            return f"{cell:.{0 if abs(cell) >= 100 else 1 if abs(cell) >= 10 else 2 if abs(cell) >= 1 else 3}f}"
        case _:
            return str(cell)


def _as_text(name: str, machine: Machine, figures: Figures) -> str:
    parts = [f"bench/{name}\n{machine}"]
    for table in figures.tables:
        cells = [table.columns, *([shown(cell) for cell in row] for row in table.rows)]
        widths = [max(len(row[index]) for row in cells) for index in range(len(table.columns))]
        lines = [
            "  ".join(_aligned(text, width, index) for index, (text, width) in enumerate(zip(row, widths, strict=True)))
            for row in cells
        ]
        parts.append("\n".join([*filter(None, [table.title]), *(line.rstrip() for line in lines)]))
    parts.append("\n".join([*map(str, figures.goals), *(f"note: {note}" for note in figures.notes)]))
    return "\n\n".join(filter(None, parts))


def _aligned(text: str, width: int, index: int) -> str:
    return text.rjust(width) if index else text.ljust(width)


def _as_markdown(name: str, machine: Machine, figures: Figures) -> str:
    date = datetime.now(UTC).date()
    parts = [f"## {name}", f"`python -m bench.{_arguments(name)}`, {date}: {machine}."]
    for table in figures.tables:
        rule = ["---", *("---:" for _ in table.columns[1:])]
        rows = [table.columns, rule, *([shown(cell) for cell in row] for row in table.rows)]
        parts += [*filter(None, [table.title]), "\n".join(f"| {' | '.join(row)} |" for row in rows)]
    items = [*(f"- **{str(goal).replace(':', ':**', 1)}" for goal in figures.goals), *(f"- {n}" for n in figures.notes)]
    return "\n\n".join([*parts, *filter(None, ["\n".join(items)])])


def _arguments(name: str) -> str:
    return " ".join([name, *(argument for argument in sys.argv[1:] if argument != "--markdown")])


def _as_json(name: str, machine: Machine, options: argparse.Namespace, figures: Figures) -> str:
    tables = [
        {"title": table.title, "rows": [dict(zip(table.columns, row, strict=True)) for row in table.rows]}
        for table in figures.tables
    ]
    chosen = {key: value for key, value in vars(options).items() if key not in {"json", "markdown"}}
    document = {
        "schema": "maxbuild.bench.v1",
        "bench": name,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.to_json(),
        "options": chosen,
        "tables": tables,
        "goals": [asdict(goal) for goal in figures.goals],
        "notes": list(figures.notes),
    }
    return json.dumps(document, indent=2, ensure_ascii=False, default=str)


def _spelled(command: Command) -> str:
    return " ".join(map(str, command))
