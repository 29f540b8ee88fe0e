"""gpu: what a machine with an NVIDIA GPU shows of packages that were built without one: each stage, and how fast.

A package is built with no GPU visible, then loaded, verified, run and timed on the GPU. A stage that fails is told, and
what needs it is left out; the exit code is 1 then. With `--dry-run` what needs a GPU is left out from the start.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from bench import decode, startup
from bench.fixtures import MAXBUILD, Shape, Subject, demo_subject, random_subject
from bench.harness import (
    BenchError,
    Cell,
    Command,
    Figures,
    Table,
    child_environment,
    new_parser,
    run_bench,
    run_process,
)
from maxbuild.runtime.torch_build import installed_torch
from maxbuild.targets.host import Host

_DRY_TARGET = "cuda:sm_90"
_OVERRIDE = "compile.alternatives=1"
_MIB = 1 << 20

Made = TypeVar("Made")


@dataclass(slots=True)
class Stages:
    """Runs stages one after another and keeps what became of each. left_out: why none that needs a GPU runs."""

    left_out: str | None = None
    rows: list[tuple[Cell, ...]] = field(default_factory=list)
    failed: int = 0

    def build(self, name: str, work: Callable[[], Made], tell: Callable[[Made], str]) -> Made | None:
        """Run a stage that needs no GPU; return what it makes, None where it fails."""
        begin = time.perf_counter()
        try:
            made = work()
        except BenchError as error:
            self._note(name, "failed", time.perf_counter() - begin, _last_line(error))
            self.failed += 1
            return None
        self._note(name, "done", time.perf_counter() - begin, tell(made))
        return made

    def check(
        self,
        name: str,
        subject: Subject | None,
        work: Callable[[Subject], Made],
        tell: Callable[[Made], str],
        unfit: str | None = None,
    ) -> Made | None:
        """Run a stage that needs a GPU and `subject`, or note why it does not run; `unfit` is a reason of its own."""
        if self.left_out is not None or subject is None or unfit is not None:
            reason = "there is no package" if subject is None else unfit
            self._note(name, "left out", None, self.left_out or reason or "")
            return None
        return self.build(name, partial(work, subject), tell)

    def table(self) -> Table:
        """Return what became of all."""
        return Table(("stage", "state", "seconds", "seen"), tuple(self.rows), "stages")

    def _note(self, name: str, state: str, seconds: float | None, seen: str) -> None:
        self.rows.append((name, state, seconds, seen))


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be built and tried."""

    name: str
    make: Callable[[], Subject]
    has_draft: bool = False

    @property
    def unknown(self) -> Subject:
        """Return the subject as far as it is known before it is built."""
        return Subject(self.name, Path(), Path(), has_draft=self.has_draft)


@dataclass(frozen=True, slots=True)
class Side:
    """What is measured where: the target of the packages, and the device that they run on."""

    target: str
    device: str
    options: argparse.Namespace
    folder: Path

    @property
    def store(self) -> Path:
        """Return the folder of results to build with."""
        return self.options.store or self.folder / "store"


def measure(
    options: argparse.Namespace, folder: Path, stages: Stages, subjects: Callable[[Side], Sequence[Plan]] | None = None
) -> Figures:
    """Run all stages of all subjects (default: the demo, and a random model beside it) and return what they found."""
    side = Side(*_target_and_device(options, stages), options, folder)
    tables: list[Table] = []
    for plan in (subjects or _plans)(side):
        name = plan.name
        subject = stages.build(f"{name}: build, no GPU visible", plan.make, _tell_package)
        stages.check(f"{name}: load", subject, partial(_load, side), "{:.1f} s without Python's start".format)
        stages.check(f"{name}: verify", subject, partial(_verify, side), str)
        tables += [_speeds(plan, subject, side, stages), _starts(plan, subject, side, stages)]
        unfit = "packages for CPUs have no alternatives" if side.device == "cpu" else None
        stages.check(f"{name}: tune", subject, partial(_tune, side), str, unfit)
        stages.check(f"{name}: verify what runs then", subject, partial(_verify, side), str, unfit)
    notes = (
        f"packages for {side.target}, run on {side.device}; {_device_text()}",
        f"speed: medians of {options.repetitions} interleaved rounds of {options.tokens} greedy tokens, batch 1,"
        " float32 without TF32; where there is a figure, all sides picked the same tokens, with and without draft",
        f"starts: medians of {options.starts} interleaved starts of whole processes, files in the page cache",
    )
    return Figures((stages.table(), *tables), notes=notes)


def _target_and_device(options: argparse.Namespace, stages: Stages) -> tuple[str, str]:
    """Return the target and the device; note in `stages` why they cannot be tried here."""
    found = Host().find("cuda")
    if options.dry_run:
        stages.left_out = "a dry run" if found.archs else str(found)
    elif options.device != "cpu" and (not found.archs or (torch := installed_torch()) is None or torch.cuda is None):
        raise BenchError(f"{found}; {installed_torch()}\n`--dry-run` goes through what needs no GPU")
    if options.target:
        return options.target, options.device
    if options.device == "cpu":
        return "cpu", "cpu"
    index = int(options.device.partition(":")[2] or 0)
    return f"cuda:{found.archs[index]}" if index < len(found.archs) else _DRY_TARGET, options.device


def _plans(side: Side) -> Sequence[Plan]:
    demo = Plan("tiny-gemma3", lambda: demo_subject(side.folder, side.store, side.target, _OVERRIDE), has_draft=True)
    if not side.options.layers:
        return [demo]
    shape = Shape(side.options.layers, side.options.hidden)
    return [demo, Plan(str(shape), lambda: random_subject(shape, side.folder, side.store, side.target, _OVERRIDE))]


def _speeds(plan: Plan, subject: Subject | None, side: Side, stages: Stages) -> Table:
    options = side.options
    setting = decode.Setting(side.device, os.cpu_count() or 1, options.repetitions, options.tokens)
    found = stages.check(
        f"{plan.name}: generate" + (", with and without draft" if plan.has_draft else ""),
        subject,
        lambda subject: decode.decode_table(subject, setting, side.folder / "caches"),
        lambda table: f"{table.rows[0][1]:.0f} tokens/s, the tokens of all sides are equal",
    )
    return found or _empty(decode.COLUMNS, decode.sides(plan.unknown), f"{plan.name}, {setting}")


def _starts(plan: Plan, subject: Subject | None, side: Side, stages: Stages) -> Table:
    title = f"{plan.name}, {side.device}, starts"
    starts = startup.Starts(subject or plan.unknown, side.folder / "starts" / plan.name, side.device)
    found = stages.check(
        f"{plan.name}: first token",
        subject,
        lambda _: startup.startup_table(starts, side.options.starts, title),
        lambda table: f"{table.rows[0][1]:.1f} s, the text of all sides is equal",
    )
    return found or _empty(startup.COLUMNS, starts.sides(), title)


def _empty(columns: tuple[str, ...], names: Sequence[str] | dict[str, object], title: str) -> Table:
    blanks: tuple[Cell, ...] = (None,) * (len(columns) - 1)
    return Table(columns, tuple((name, *blanks) for name in names), title)


def _load(side: Side, subject: Subject) -> float:
    command: Command = [sys.executable, "-m", "bench.sides", "load", "draft", side.device, subject.package]
    return float(run_process(command, child_environment()).stdout)


def _verify(side: Side, subject: Subject) -> str:
    """Compare with transformers' eager model on the same device; BenchError where rounding does not explain it."""
    command: Command = [*MAXBUILD, "verify", subject.package, "--device", side.device, "--json"]
    done = run_process(command, child_environment(), answers=(0, 1))
    if not done.stdout:
        raise BenchError(done.stderr)
    compared = json.loads(done.stdout)["comparisons"]
    worst = max(compared, key=lambda row: row["error"] / row["tolerance"])
    said = f"{len(compared)} compared, worst {worst['component']}/{worst['what']}: {worst['error']:.1e}"
    if done.returncode:
        raise BenchError(f"{said}, more than {worst['tolerance']:.0e}")
    return f"{said} of {worst['tolerance']:.0e}"


def _tune(side: Side, subject: Subject) -> str:
    """Time the alternatives, and let what wins run from now on."""
    command: Command = [*MAXBUILD, "tune", subject.package, "--device", side.device, "--json"]
    found = json.loads(run_process(command, child_environment()).stdout)
    shares = {
        f"{trial['region']}, {workload}": share
        for trial in found["measured"]
        for workload, share in trial["ratios"].items()
        if trial["rank"]
    }
    said = f"{len(found['choices'])} of {len({trial['region'] for trial in found['measured']})} regions run another"
    if not shares:
        return said
    best = min(shares, key=lambda name: shares[name])
    return f"{said}; least share of the default's time {shares[best]:.2f} ({best})"


def _tell_package(subject: Subject) -> str:
    regions = [path.stat().st_size for path in subject.package.glob("regions/*.pt2")]
    return f"{len(regions)} regions, {sum(regions) / _MIB:.1f} MiB"


def _last_line(error: BenchError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("error:", "Caused by:"))]
    return "; ".join(told) or (lines[-1] if lines else "failed")


def _device_text() -> str:
    """Return the GPU and its driver as nvidia-smi tells them."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip().replace("\n", "; ")
    except (OSError, subprocess.CalledProcessError):
        return "no nvidia-smi tells of a GPU"


def main() -> int:
    """Check, measure and print."""
    parser = new_parser("What a machine with an NVIDIA GPU shows of packages built without one.")
    parser.add_argument("--dry-run", action="store_true", help="leave out what needs a GPU")
    parser.add_argument("--target", help="build for this target, not for the machine's GPU")
    parser.add_argument("--device", default="cuda:0", help="run on this device; `cpu` rehearses everything on a CPU")
    parser.add_argument("--starts", type=int, default=3, help="starts of each side")
    parser.add_argument("--repetitions", type=int, default=5, help="rounds of each side")
    parser.add_argument("--tokens", type=int, default=128, help="tokens of each round")
    parser.add_argument("--layers", type=int, default=12, help="layers of the random model beside the demo; 0: none")
    parser.add_argument("--hidden", type=int, default=1024, help="width of the random model")
    parser.add_argument("--store", type=Path, help="a store that may hold what is built already")
    options = parser.parse_args()
    if options.quick:
        options.starts, options.repetitions, options.tokens, options.layers = 1, 2, 32, 0
    stages = Stages()
    code = run_bench("gpu", partial(measure, stages=stages), options)
    return code or int(stages.failed > 0)


if __name__ == "__main__":
    sys.exit(main())
