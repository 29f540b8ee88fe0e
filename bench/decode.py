"""decode: tokens per second of one row on CPUs, with the same model, prompt and number of threads on every side.

Each side is a process that loads and warms up once and then decodes in turn with the others. All must pick the same
tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.fixtures import DEMO_MODEL, Shape, Subject, demo_subject, random_subject
from bench.harness import (
    BenchError,
    Cell,
    Command,
    Figures,
    Samples,
    Table,
    child_environment,
    interleave,
    new_parser,
    run_bench,
    talk,
)
from bench.sides import Round

_PROMPT = "one two three four"
_BASE = "transformers, eager"


COLUMNS = ("side", "tokens/s", "least to largest", f"÷ {_BASE.partition(', ')[2]}", "first token ms", "accepted")


@dataclass(frozen=True, slots=True)
class Setting:
    """How sides are measured: where they run, and how often how many tokens are decoded."""

    device: str
    threads: int
    repetitions: int
    tokens: int

    def __str__(self) -> str:
        """Return what tells it from others of a run."""
        threads = f"{self.threads} thread" + ("s" if self.threads > 1 else "")
        return threads if self.device == "cpu" else self.device


class _Worker:
    """A side that decodes in a process of its own."""

    def __init__(self, name: str, process: subprocess.Popen[str]) -> None:
        self.name = name
        self._process = process
        self.rounds: list[Round] = []

    def decode(self, prompt: Sequence[int], count: int) -> Round:
        """Decode once; BenchError where the process is gone."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):  # then it has no answer either
            self._process.stdin.write(json.dumps({"prompt": list(prompt), "count": count}) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise BenchError(f"the side `{self.name}` ended; what it wrote on stderr is above")
        done = Round(**json.loads(line))
        self.rounds.append(done)
        return done


@contextmanager
def _worker(name: str, side: str, folder: Path, setting: Setting, caches: Path) -> Iterator[_Worker]:
    """Lend a worker for `side`, one of those that bench.sides knows, over the model or package in `folder`."""
    command: Command = [sys.executable, "-m", "bench.sides", "decode", side, setting.device, folder]
    threads = str(setting.threads)
    environment = child_environment(OMP_NUM_THREADS=threads, MKL_NUM_THREADS=threads, TORCHINDUCTOR_CACHE_DIR=caches)
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield _Worker(name, process)


def _measure(options: argparse.Namespace, folder: Path) -> Figures:
    store = options.store or folder / "store"
    subjects = [demo_subject(folder, store)]
    if options.layers:
        subjects.append(random_subject(Shape(options.layers, options.hidden), folder, store))
    settings = [Setting("cpu", threads, options.repetitions, options.tokens) for threads in options.threads]
    tables = [decode_table(subject, setting, folder / "caches") for subject in subjects for setting in settings]
    return Figures(
        tuple(tables),
        notes=(
            f"medians of {options.repetitions} interleaved rounds of {options.tokens} greedy tokens, batch 1, float32;"
            " speed counts from the first token on; each side ran twice before",
            "eager: transformers with its DynamicCache; torch.compile: StaticCache, mode default, prompt eager",
        ),
    )


def sides(subject: Subject) -> dict[str, tuple[str, Path]]:
    """Return the sides of a subject by name: as bench.sides knows each, and the folder that it reads."""
    return {
        "package": ("package", subject.package),
        **({"package with draft": ("draft", subject.package)} if subject.has_draft else {}),
        _BASE: ("eager", subject.model),
        "torch.compile": ("compiled", subject.model),
    }


def decode_table(subject: Subject, setting: Setting, caches: Path) -> Table:
    """Measure the sides of a subject; BenchError where they do not pick the same tokens."""
    title = f"{subject.name}, {setting}"
    talk(title)
    prompt = _prompt_tokens()
    with ExitStack() as stack:
        workers = [
            stack.enter_context(_worker(name, side, folder, setting, caches))
            for name, (side, folder) in sides(subject).items()
        ]
        rounds = {worker.name: _round_of(worker, prompt, setting.tokens) for worker in workers}
        samples = interleave(rounds, setting.repetitions, warm_ups=2)
        _check_tokens(subject, workers)
        rows = tuple(_row(worker, samples, setting.repetitions) for worker in workers)
    return Table(COLUMNS, rows, title)


def _prompt_tokens() -> list[int]:
    from tokenizers import Tokenizer  # noqa: PLC0415

    return list(Tokenizer.from_file(str(DEMO_MODEL / "tokenizer.json")).encode(_PROMPT).ids)


def _round_of(worker: _Worker, prompt: Sequence[int], count: int) -> Callable[[], float]:
    return lambda: worker.decode(prompt, count).tokens_per_second


def _row(worker: _Worker, samples: dict[str, Samples], repetitions: int) -> tuple[Cell, ...]:
    speed = samples[worker.name]
    first = Samples([done.first * 1000 for done in worker.rounds[-repetitions:]]).median
    acceptance = worker.rounds[-1].acceptance
    accepted = None if acceptance is None else f"{acceptance:.0%}"
    return (worker.name, speed.median, speed.spread, speed.ratio(samples[_BASE]), first, accepted)


def _check_tokens(subject: Subject, workers: Sequence[_Worker]) -> None:
    """Raise BenchError where a side ever picked another token than the first side did at first."""
    expected = workers[0].rounds[0].tokens
    for worker in workers:
        for done in worker.rounds:
            if done.tokens != expected:
                pairs = zip(done.tokens, expected, strict=False)
                place = next((i for i, (mine, theirs) in enumerate(pairs) if mine != theirs), "its end")
                raise BenchError(
                    f"{subject.name}: `{worker.name}` picks other tokens than the package, from {place} on"
                )


def main() -> int:
    """Measure and print."""
    cores = len(os.sched_getaffinity(0))
    parser = new_parser("Tokens per second on CPUs: package, eager transformers and torch.compile.")
    parser.add_argument("--repetitions", type=int, default=9, help="rounds of each side")
    parser.add_argument("--tokens", type=int, default=128, help="tokens of each round")
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, cores}), help="threads of each side")
    parser.add_argument("--layers", type=int, default=12, help="layers of the random model beside the demo; 0: none")
    parser.add_argument("--hidden", type=int, default=512, help="width of the random model")
    parser.add_argument("--store", type=Path, help="a store that may hold what is run already, to save building")
    options = parser.parse_args()
    if options.quick:
        options.repetitions, options.tokens, options.layers, options.threads = 2, 32, 0, [cores]
    return run_bench("decode", _measure, options)


if __name__ == "__main__":
    sys.exit(main())
