"""startup: seconds from the start of a process to the first token on its stdout.

The package runs as `maxbuild run` does, with all its digests checked; transformers as a script of a few lines, eager
and through `torch.compile`, whose caches are empty (cold) or hold what an earlier run of the same prompt left (warm).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from bench.fixtures import MAXBUILD, Shape, Subject, demo_subject, random_subject
from bench.harness import (
    BenchError,
    Cell,
    Command,
    Figures,
    Table,
    child_environment,
    interleave,
    new_parser,
    run_bench,
    seconds_to_output,
)

_PROMPT = "one two three four"


COLUMNS = ("from start to first token", "seconds", "least to largest", "÷ package")


class Starts:
    """Starts the sides of one subject on a device, and sees to it that all of them say the same."""

    def __init__(self, subject: Subject, folder: Path, device: str = "cpu") -> None:
        self._subject, self._folder, self._device = subject, folder, device
        self._said: str | None = None
        self._cold = 0

    def sides(self) -> dict[str, Callable[[], float]]:
        """Return the measurable sides by name."""
        return {
            "package": self._package,
            "transformers, eager": lambda: self._transformers("eager", "unused"),
            "torch.compile, cold caches": self._compiled_cold,
            "torch.compile, warm caches": lambda: self._transformers("compiled", "warm"),
        }

    def fill_caches(self) -> None:
        """Let torch.compile fill the caches that stay warm."""
        self._transformers("compiled", "warm")

    def _package(self) -> float:
        options = ("--prompt", _PROMPT, "--max-new-tokens", "1", "--no-draft", "--device", self._device)
        return self._start([*MAXBUILD, "run", self._subject.package, *options], "unused")

    def _compiled_cold(self) -> float:
        self._cold += 1
        return self._transformers("compiled", f"cold-{self._cold}")

    def _transformers(self, side: str, caches: str) -> float:
        arguments = ("first-token", side, self._device, self._subject.model, _PROMPT)
        command: Command = [sys.executable, "-m", "bench.sides", *arguments]
        return self._start(command, caches)

    def _start(self, command: Command, caches: str) -> float:
        environment = child_environment(TORCHINDUCTOR_CACHE_DIR=self._folder / "caches" / caches)
        seconds, text = seconds_to_output(command, environment)
        said = text.strip()
        if self._said is not None and said != self._said:
            raise BenchError(f"{self._subject.name}: one side says {self._said!r}, another {said!r}")
        self._said = said
        return seconds


def _measure(options: argparse.Namespace, folder: Path) -> Figures:
    store = options.store or folder / "store"
    subjects = [demo_subject(folder, store)]
    if options.layers:
        subjects.append(random_subject(Shape(options.layers, options.hidden), folder, store))
    return Figures(
        tuple(
            startup_table(Starts(subject, folder / str(index)), options.repetitions, subject.name)
            for index, subject in enumerate(subjects)
        ),
        notes=(
            f"medians of {options.repetitions} interleaved starts of whole processes, float32, prompt `{_PROMPT}`",
            "files lie in the page cache: every side ran once before it was measured",
        ),
    )


def startup_table(starts: Starts, repetitions: int, title: str) -> Table:
    """Measure the sides of a subject."""
    starts.fill_caches()
    samples = interleave(starts.sides(), repetitions, warm_ups=1)
    package = samples["package"]
    rows: list[tuple[Cell, ...]] = [
        (name, side.median, side.spread, side.ratio(package)) for name, side in samples.items()
    ]
    return Table(COLUMNS, tuple(rows), title)


def main() -> int:
    """Measure and print."""
    parser = new_parser("Seconds from the start of a process to its first token.")
    parser.add_argument("--repetitions", type=int, default=5, help="starts of each side")
    parser.add_argument("--layers", type=int, default=12, help="layers of the random model beside the demo; 0: none")
    parser.add_argument("--hidden", type=int, default=512, help="width of the random model")
    parser.add_argument("--store", type=Path, help="a store that may hold what is run already, to save building")
    options = parser.parse_args()
    if options.quick:
        options.repetitions, options.layers = 1, 0
    return run_bench("startup", _measure, options)


if __name__ == "__main__":
    sys.exit(main())
