"""A toy plan that ends in real packages, whose steps can be told to depend on what no key names."""

from __future__ import annotations

import getpass
import io
import json
import os
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

import maxbuild
from maxbuild.engine import Deferred, Job, Kind, OutputOf, Renewal, Result, SourceFile, Task
from maxbuild.errors import TaskFailed

KINDS: Mapping[str, Kind] = {
    "fetch": Kind("fetch", "toypackages:fetch", isolated=False, renewal=Renewal.DOWNLOAD),
    "trace": Kind("trace", "toypackages:trace", isolated=False),
    "load": Kind("load", "toypackages:load", isolated=True),
    "compile": Kind("compile", "toypackages:compile", isolated=True),
    "build": Kind("build", "toypackages:build", isolated=False),
    "package": Kind("package", "maxbuild.steps.package:run", isolated=False),
}
TARGET = "cpu:x86-64-v3"
VARIABLE = "MAXBUILD_TOY_LEAK"
STRANGER = "somebody"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


LEAKS: Mapping[str, Callable[[], object]] = {
    "checkout": lambda: maxbuild.__file__,
    "folder": Path.cwd,
    "home": Path.home,
    "libraries": lambda: yaml.__file__,
    "locale": lambda: os.environ.get("LC_ALL"),
    "seed": lambda: hash("text"),
    "threads": lambda: os.environ.get("OMP_NUM_THREADS"),
    "time": time.time_ns,
    "umask": _umask,
    "user": getpass.getuser,
    "variable": lambda: os.environ.get(VARIABLE),
    "zone": lambda: time.strftime("%z"),
}
"""What a region of each name lets into its artifact; a region of another name is clean."""


@dataclass(frozen=True)
class ToyPackages:
    """The plan: one component with `regions`; `folder` holds the model's files, and what each step shall do wrong."""

    folder: Path
    regions: tuple[str, ...] = ("clean",)
    name: str = "toy"

    @property
    def tasks(self) -> Sequence[Task]:
        """Return what is known from the start."""
        config, orders = SourceFile(self.folder / "config.json"), SourceFile(self.folder / "orders")
        families = ("program", *(f"regions/{region}" for region in self.regions))
        return [
            _task("fetch main", {"config.json": config}, ("file",)),
            _task("trace main", {"orders": orders}, families),
            _task("load main", {"orders": orders, "file": OutputOf("fetch main", "file")}, ("index",)),
            *(
                _task(
                    f"compile main/{region}", {region: OutputOf("trace main", f"regions/{region}")}, ("code", "recipe")
                )
                for region in self.regions
            ),
            *(
                _task(f"build main/{region}", {"recipe": OutputOf(f"compile main/{region}", "recipe")}, ("library",))
                for region in self.regions
            ),
            self._package(config),
        ]

    def grow(self, _: Mapping[str, Result]) -> Sequence[Task]:
        """Return nothing: all is known."""
        return ()

    def deferred(self, _: Mapping[str, Result]) -> Sequence[Deferred]:
        """Return nothing: all is known."""
        return ()

    def package_tasks(self) -> Mapping[str, str]:
        """Return the one package task."""
        return {TARGET: "package @ toy"}

    def _package(self, config: SourceFile) -> Task:
        component = {"chat_template": "{{ messages }}", "served_model_name": None}
        return Task(
            "package @ toy",
            "package",
            {
                "name": self.name,
                "target": TARGET,
                "components": {"main": component},
                "speculative": None,
                "serving": {},
                "built_with": {},
            },
            {
                "main/config.json": config,
                "main/program.json": OutputOf("trace main", "program"),
                "main/weights.json": OutputOf("load main", "index"),
                **{f"main/regions/{name}": OutputOf(f"compile main/{name}", "code") for name in self.regions},
                **{
                    f"libraries/main/regions/{name}": OutputOf(f"build main/{name}", "library") for name in self.regions
                },
            },
            {},
            ("package", "files/*"),
        )


def _task(name: str, inputs: Mapping[str, SourceFile | OutputOf], outputs: tuple[str, ...]) -> Task:
    return Task(name, name.split(maxsplit=1)[0], {}, inputs, {}, outputs)


def fetch(job: Job) -> Mapping[str, Path]:
    """Leave the file where it is, and a line in the ledger beside it for every time that it was fetched."""
    with (job.inputs["config.json"].with_name("ledger")).open("a") as ledger:
        ledger.write("fetched\n")
    return {"file": job.inputs["config.json"]}


def trace(job: Job) -> Mapping[str, Path]:
    """Leave a program, and an empty graph of each region; where the orders say so, with the user's name in it."""
    orders = job.inputs["orders"].read_text()
    graph = getpass.getuser() if "trace leaks" in orders else "graph"
    names = ("program", *(f"regions/{name}" for name in _regions(orders)))
    return {name: _left(job, name, json.dumps({"vocab_size": 1, "graph": graph}).encode()) for name in names}


def load(job: Job) -> Mapping[str, Path]:
    """Leave an index; fail, or hang, as another user, where the orders say so."""
    orders = job.inputs["orders"].read_text()
    if os.environ.get("USER") == STRANGER:
        if "fail" in orders:
            print("the linker says no")
            raise TaskFailed("no such library", causes=["it lies in somebody's home"])
        while "hang" in orders:
            (job.inputs["orders"].with_name("running")).touch()
            time.sleep(0.02)
    return {"index": _left(job, "index", b"{}")}


def compile(job: Job) -> Mapping[str, Path]:  # noqa: A001 - steps are called as their kinds are
    """Leave an archive of two members, the second of which holds what the region's name says."""
    ((region, graph),) = job.inputs.items()
    leak = LEAKS.get(region, lambda: "")
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name, content in (
            ("region/version", b"0"),
            ("region/code", f"{region}: {leak()} {graph.read_text()}".encode()),
        ):
            archive.writestr(zipfile.ZipInfo(name), content)
    return {"code": _left(job, "code", held.getvalue()), "recipe": _left(job, "recipe", b"{}")}


def build(job: Job) -> Mapping[str, Path]:
    """Leave a library."""
    return {"library": _left(job, "library", job.inputs["recipe"].read_bytes())}


def _regions(orders: str) -> Sequence[str]:
    return orders.splitlines()[0].split()


def _left(job: Job, name: str, content: bytes) -> Path:
    path = job.scratch / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
