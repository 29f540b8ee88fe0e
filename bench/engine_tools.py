"""The tools that bench/engine sets side by side: what each reads of a graph, how it is started, and what it ran.

Every tool has the same graph and the same work, in its fastest setting that is still right, in Python within its own
process where it can. A tool's own words say which tasks it ran; nothing is taken from them but that.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from bench.engine_child import UNSYNCED
from bench.engine_dag import Dag
from bench.harness import BenchError, Command, child_environment

GRAPH = "graph.json"
_TAIL = 2000
_CORES = len(os.sched_getaffinity(0))


class TooSlow(BenchError):
    """A process took longer than it was allowed; it was killed."""


@dataclass(frozen=True, slots=True)
class Run:
    """One build, as a whole process: its seconds, and the file that each task it ran has left."""

    seconds: float
    left: Mapping[str, Path]


def quiet_environment(**changes: str | Path) -> dict[str, str]:
    """Return an environment for what is timed: as `child_environment`, with bytecode kept as everybody keeps it."""
    environment = child_environment(**changes)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


def run_within(command: Command, limit: float, folder: Path, environment: Mapping[str, str]) -> tuple[float, str]:
    """Return the seconds `command` takes in `folder` and all it prints; TooSlow, and it is killed, after `limit`."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        text, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        raise TooSlow(f"{command[0]} took longer than {limit:.0f} s") from None
    finally:
        if process.poll() is None:  # also after Ctrl-C
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    seconds = time.perf_counter() - begin
    if process.returncode:
        raise BenchError(f"{' '.join(map(str, command))} exited with {process.returncode}:\n{text[-_TAIL:]}")
    return seconds, text


class Tool(ABC):
    """One tool in one setting. `how`: what one must know of it. `peer`: whether our engine is to be faster."""

    name: ClassVar[str]
    how: ClassVar[str]
    peer: ClassVar[bool] = True
    words: ClassVar[str]
    """A pattern that finds each task it says it ran as `name`, and the file it left as `path` if that is another."""

    def __init__(self, program: Command) -> None:
        """Start the tool as `program`."""
        self.program = program

    @property
    @abstractmethod
    def command(self) -> Command:
        """Return what builds everything in the current folder."""

    @abstractmethod
    def describe(self, dag: Dag, folder: Path) -> None:
        """Write what the tool reads; the graph and the source files are in `folder` already."""

    def prepare(self, dag: Dag, folder: Path, limit: float) -> None:  # noqa: ARG002
        """Bring `folder` to where everything is built: by building it."""
        self.build(folder, limit)

    def build(self, folder: Path, limit: float) -> Run:
        """Build everything in `folder`; TooSlow after `limit` seconds."""
        seconds, text = run_within(self.command, limit, folder, self._environment(folder))
        found = [match.groupdict() for match in re.finditer(self.words, text, re.MULTILINE)]
        return Run(seconds, {task["name"]: folder / task.get("path", task["name"]) for task in found})

    def version(self) -> str:
        """Return the version the tool says it has."""
        _, text = run_within((*self.program, "--version"), 60, Path.cwd(), quiet_environment())
        return text.split()[0]

    def _environment(self, folder: Path) -> dict[str, str]:
        """Return an environment in which a peer sees nothing of this checkout and writes only to `folder`."""
        home = folder / ".home"
        caches = {"XDG_CACHE_HOME": home / "cache", "DVC_SITE_CACHE_DIR": home / "dvc"}
        environment = quiet_environment(HOME=home, XDG_CONFIG_HOME=home / "config", DVC_NO_ANALYTICS="1", **caches)
        del environment["PYTHONPATH"]
        return environment


class Maxbuild(Tool):
    """Our engine, through the same doors that `warm` uses."""

    name = "maxbuild"
    how = "compares digests, brings what it makes to the disk (fsync), and can say why; its steps run in threads"
    peer = False
    words = r"^(?P<name>\S+) (?P<path>/\S+)$"

    @property
    def command(self) -> Command:
        """Return the child that builds with a store beside the graph."""
        return (*self.program, GRAPH, "store")

    def describe(self, dag: Dag, folder: Path) -> None:
        """Write nothing more: the child reads the graph itself."""

    def prepare(self, dag: Dag, folder: Path, limit: float) -> None:  # noqa: ARG002
        """Build everything without waiting for the disk."""
        run_within((*self.command, UNSYNCED), limit, folder, self._environment(folder))

    def version(self) -> str:
        """Return nothing: the head of the report says it."""
        return ""

    def _environment(self, folder: Path) -> dict[str, str]:  # noqa: ARG002
        return quiet_environment()


class Unsynced(Maxbuild):
    """Our engine once more, in the same place, without waiting for the disk: no peer does."""

    name = "maxbuild, no fsync"
    how = "the same engine and store, with `os.fsync` taken out, as no peer calls it"

    @property
    def command(self) -> Command:
        """Return the child with fsync left out."""
        return (*super().command, UNSYNCED)


class Ninja(Tool):
    """Compares times of files; a shell for every task."""

    name = "ninja"
    peer = False  # it is not in Python
    how = "compares times; C++; a shell and `cat` for every task"
    words = r"^\[\d+/\d+\] (?P<name>\S+)$"

    @property
    def command(self) -> Command:
        """Return ninja alone."""
        return self.program

    def describe(self, dag: Dag, folder: Path) -> None:
        """Write `build.ninja`."""
        lines = ["rule join", "  command = cat $in > $out", "  description = $out"]
        lines += [f"build {node.name}: join {' '.join(node.paths)}" for node in dag.nodes]
        (folder / "build.ninja").write_text("\n".join(lines) + "\n")


class Doit(Tool):
    """Compares times, then digests where times differ; actions are Python functions in its own process."""

    name = "doit"
    how = "compares times, then md5; Python actions in its process; backend `json`, its fastest here"
    words = r"^\.  join:(?P<name>\S+)$"

    @property
    def command(self) -> Command:
        """Return doit alone."""
        return self.program

    def describe(self, dag: Dag, folder: Path) -> None:  # noqa: ARG002
        """Write `dodo.py`, which reads the graph."""
        (folder / "dodo.py").write_text(_DODO)


class Snakemake(Tool):
    """Compares times; jobs are Python code in threads of its process."""

    name = "snakemake"
    how = "compares times (`--rerun-triggers mtime`); Python code in threads of its process, no metadata kept"
    words = r"^    output: (?P<name>\S+)$"

    @property
    def command(self) -> Command:
        """Return snakemake with its fastest switches."""
        switches = ("--force-use-threads", "--drop-metadata", "--rerun-triggers", "mtime", "--quiet", "progress")
        return (*self.program, "--cores", str(_CORES), *switches)

    def describe(self, dag: Dag, folder: Path) -> None:  # noqa: ARG002
        """Write `Snakefile`: one rule for all, which reads the graph."""
        (folder / "Snakefile").write_text(_SNAKEFILE)

    def prepare(self, dag: Dag, folder: Path, limit: float) -> None:  # noqa: ARG002
        """Write all outputs, producers first: by their times, everything is built."""
        write_outputs(dag, folder)


class Dvc(Tool):
    """Compares digests; a shell for every stage, and no Git."""

    name = "dvc"
    how = "compares md5; a shell and `cat` for every stage; no Git, outputs not copied to its cache"
    words = r"^Running stage '(?P<name>[^']+)':$"

    @property
    def command(self) -> Command:
        """Return dvc's build."""
        return (*self.program, "repro")

    def describe(self, dag: Dag, folder: Path) -> None:
        """Write `dvc.yaml` (JSON is YAML)."""
        stages = {
            node.name: {
                "cmd": f"cat {' '.join(node.paths)} > {node.name}",
                "deps": list(node.paths),
                "outs": [{node.name: {"cache": False}}],
            }
            for node in dag.nodes
        }
        (folder / "dvc.yaml").write_text(json.dumps({"stages": stages}, indent=1))

    def prepare(self, dag: Dag, folder: Path, limit: float) -> None:
        """Write all outputs and have dvc take them for built."""
        environment = self._environment(folder)
        run_within((*self.program, "init", "--no-scm", "--force", "--quiet"), limit, folder, environment)
        write_outputs(dag, folder)
        run_within((*self.program, "commit", "--force", "--quiet"), limit, folder, environment)


def write_outputs(dag: Dag, folder: Path) -> None:
    """Write what every task would leave, producers first."""
    for name, text in dag.contents(lambda source: (folder / source).read_text()).items():
        (folder / name).write_text(text)


def our_tools() -> list[Tool]:
    """Return our engine under this interpreter, as it is and without fsync."""
    program = (sys.executable, "-m", "bench.engine_child")
    return [Maxbuild(program), Unsynced(program)]


PEERS: tuple[type[Tool], ...] = (Ninja, Doit, Snakemake, Dvc)

_DODO = """\
import json

DOIT_CONFIG = {"backend": "json", "reporter": "executed-only"}

def join(paths, target):
    parts = []
    for path in paths:
        with open(path) as file:
            parts.append(file.read())
    with open(target, "w") as file:
        file.write("".join(parts))

def task_join():
    with open("graph.json") as file:
        graph = json.load(file)
    for name, source, inputs in graph:
        paths = inputs if source is None else [source]
        yield {"name": name, "actions": [(join, [paths, name])], "file_dep": paths, "targets": [name]}
"""

_SNAKEFILE = """\
import json

with open("graph.json") as file:
    PATHS = {name: inputs if source is None else [source] for name, source, inputs in json.load(file)}
CONSUMED = {path for paths in PATHS.values() for path in paths}

rule all:
    input: [name for name in PATHS if name not in CONSUMED]

rule join:
    input: lambda wildcards: PATHS[wildcards.name]
    output: "{name,(leaf|middle|gather)[0-9_]+}"
    run:
        parts = []
        for path in input:
            with open(path) as file:
                parts.append(file.read())
        with open(output[0], "w") as file:
            file.write("".join(parts))
"""
