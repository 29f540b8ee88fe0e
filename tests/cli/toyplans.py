"""A toy plan in the shape of a real one: traces that make compiles known, loads, packages; steps that only wait."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from maxbuild.engine import JSON, Deferred, Job, Kind, OutputOf, Result, SourceFile, Task
from maxbuild.errors import WeightsError

KINDS: Mapping[str, Kind] = {
    name: Kind(name, f"toyplans:{name}", isolated=False) for name in ("trace", "load", "compile", "package")
}
REGIONS = ("decoder", "head")


@dataclass(frozen=True)
class Toy:
    """The plan: `length` is a parameter of the trace, `roles` and `targets` are what there is to build."""

    folder: Path
    length: int = 512
    roles: tuple[str, ...] = ("main",)
    targets: tuple[str, ...] = ("cpu:x86-64-v3",)

    @property
    def tasks(self) -> Sequence[Task]:
        """Return what is known from the start."""
        config, weights = SourceFile(self.folder / "config.json"), SourceFile(self.folder / "weights")
        traces = [
            _task(f"trace {role}", {"config.json": config}, ("program", "regions/*"), max_length=self.length)
            for role in self.roles
        ]
        return traces + [_task(f"load {role}", {"weights": weights}, ("out",), role=role) for role in self.roles]

    def grow(self, results: Mapping[str, Result]) -> Sequence[Task]:
        """Return the compiles that traces make known, and the packages once all is traced."""
        traced = [role for role in self.roles if f"trace {role}" in results]
        known = [
            _task(_compile(role, region, target), {"region": OutputOf(f"trace {role}", f"regions/{region}")}, ("out",))
            for role in traced
            for region in REGIONS
            for target in self.targets
        ]
        if len(traced) == len(self.roles):
            known += [_task(f"package @ {target}", self._parts(target), ("out",)) for target in self.targets]
        return known

    def deferred(self, results: Mapping[str, Result]) -> Sequence[Deferred]:
        """Return what waits for a trace."""
        untraced = [role for role in self.roles if f"trace {role}" not in results]
        unknown = [Deferred(f"trace {role}", "compile × regions") for role in untraced]
        return unknown + [Deferred(f"trace {untraced[-1]}", "package") for _ in untraced[:1]]

    def _parts(self, target: str) -> dict[str, SourceFile | OutputOf]:
        compiles = {
            f"{role}/{region}": OutputOf(_compile(role, region, target), "out")
            for role in self.roles
            for region in REGIONS
        }
        return {**compiles, **{f"{role}/weights": OutputOf(f"load {role}", "out") for role in self.roles}}


def _compile(role: str, region: str, target: str) -> str:
    return f"compile {role}/{region} @ {target}"


def _task(name: str, inputs: Mapping[str, SourceFile | OutputOf], outputs: tuple[str, ...], **params: JSON) -> Task:
    return Task(name, name.split(maxsplit=1)[0], {"name": name, **params}, inputs, {"torch": "2.13.0"}, outputs)


def trace(job: Job) -> Mapping[str, Path]:
    """Leave a program and a region of each kind, which are the same for every length."""
    config = job.inputs["config.json"].read_text()
    return {name: _left(job, name, config) for name in ("program", *(f"regions/{region}" for region in REGIONS))}


def _hang(job: Job) -> None:
    sys.stdout.write("running\n")  # the test waits for this line before it interrupts
    sys.stdout.flush()
    while True:
        time.sleep(0.02)
        job.progress(1, 2)


def load(job: Job) -> Mapping[str, Path]:
    """Leave the weights, unless they are bad; hang, or look at a file that is none of its inputs, where they say so."""
    weights = job.inputs["weights"].read_text()
    if "hang" in weights:
        _hang(job)
    if "peek" in weights:
        job.inputs["weights"].with_name("config.json").read_text()
    if "bad" in weights:
        raise WeightsError("the file is cut short", causes=["it ends in the header"])
    return {"out": _left(job, "out", weights)}


def compile(job: Job) -> Mapping[str, Path]:  # noqa: A001 - steps are called as their kinds are
    """Leave a kilobyte."""
    return {"out": _left(job, "out", str(job.params["name"]) + "." * 1000)}


def package(job: Job) -> Mapping[str, Path]:
    """Leave the names of the parts."""
    return {"out": _left(job, "out", " ".join(sorted(job.inputs)))}


def _left(job: Job, name: str, content: str) -> Path:
    path = job.scratch / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{name}: {content}")
    return path
