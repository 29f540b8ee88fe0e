"""A scratch world for the engine: source files, a store, and a ledger of what ran."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # so that `toys` is one module here and in isolated processes

from toys import KINDS, LEDGER

from maxbuild.engine import (
    JSON,
    Deferred,
    Event,
    Explanation,
    OutputOf,
    Report,
    Result,
    SourceFile,
    State,
    Store,
    Task,
    execute,
    survey,
)

if TYPE_CHECKING:
    from clusters import Cluster

    from maxbuild.engine.sharing import Sharing

Source = SourceFile | OutputOf


def toy(
    name: str,
    kind: str,
    inputs: Mapping[str, Source] | None = None,
    *,
    outputs: tuple[str, ...] = ("out",),
    toolchain: Mapping[str, str] | None = None,
    local: Mapping[str, JSON] | None = None,
    **params: JSON,
) -> Task:
    """Return a toy task that tells the ledger its name."""
    return Task(name, kind, params, inputs or {}, toolchain or {}, outputs, {"label": name, **(local or {})})


@dataclass
class ToyPlan:
    """A plan from a list, that may grow by a function."""

    tasks: Sequence[Task]
    grower: Callable[[Mapping[str, Result]], Sequence[Task]] = lambda _: ()
    defer: Callable[[Mapping[str, Result]], Sequence[Deferred]] = lambda _: ()

    def grow(self, results: Mapping[str, Result]) -> Sequence[Task]:
        """Return what the function says."""
        return self.grower(results)

    def deferred(self, results: Mapping[str, Result]) -> Sequence[Deferred]:
        """Return what the function says."""
        return self.defer(results)


@dataclass
class World:
    """Source files under `folder`, one store, one ledger."""

    folder: Path
    store: Store
    ledger: Path
    events: list[Event] = field(default_factory=list)

    def source(self, name: str, content: str) -> SourceFile:
        """Write a source file."""
        path = self.folder / name
        path.write_text(content)
        return SourceFile(path)

    def build(self, *tasks: Task, plan: ToyPlan | None = None, **options: object) -> Report:
        """Execute the tasks."""
        settings = {"scope": "world", "jobs": 2, "on_event": self.events.append, **options}
        return execute(plan or ToyPlan(tasks), self.store, KINDS, **settings)  # type: ignore[arg-type]

    def survey(self, *tasks: Task, plan: ToyPlan | None = None, **options: object) -> Report:
        """Survey the tasks."""
        return survey(plan or ToyPlan(tasks), self.store, **{"scope": "world", **options})  # type: ignore[arg-type]

    def ran(self) -> list[str]:
        """Return what ran since the last question, sorted, and start the ledger afresh."""
        lines = sorted(self.ledger.read_text().splitlines()) if self.ledger.exists() else []
        self.ledger.unlink(missing_ok=True)
        return lines

    def content(self, report: Report, task: str, output: str = "out") -> str:
        """Return what a task left."""
        return self.blob(report, task, output).read_text()

    def blob(self, report: Report, task: str, output: str = "out") -> Path:
        """Return where a task's output lies."""
        path = self.store.blob_path(report.results[task].outputs[output])
        assert path is not None
        return path


def small_build() -> list[Task]:
    """Return two toys, one after the other."""
    return [toy("a", "concat", text="x"), toy("z", "concat", {"from": OutputOf("a", "out")})]


def states(report: Report) -> dict[str, State]:
    """Return the state of every task."""
    return {task.name: task.state for task in report.tasks}


def why(report: Report, name: str) -> tuple[Explanation, ...]:
    """Return the explanations of one task."""
    return next(task.explanations for task in report.tasks if task.name == name)


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the disk: fsync matters to a machine that loses power, which no test here can bring about."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return an empty store."""
    return Store(tmp_path / "store")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Return an empty world."""
    ledger = tmp_path / "ledger"
    monkeypatch.setenv(LEDGER, str(ledger))
    folder = tmp_path / "sources"
    folder.mkdir()
    return World(folder, Store(tmp_path / "store"), ledger)


@pytest.fixture(scope="session")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Return a dask cluster of two workers for all tests of this run."""
    from clusters import cluster

    with cluster(tmp_path_factory.mktemp("cluster"), workers=2) as running:
        yield running


@pytest.fixture
def sharing(tmp_path: Path) -> Iterator[Sharing]:
    """Return an empty remote cache that may be written: a folder."""
    from maxbuild.engine.remote import open_remote
    from maxbuild.engine.sharing import Sharing

    cache = open_remote(f"file://{tmp_path}/remote", instance="main", write=True, environ={})
    yield Sharing(cache)
    cache.close()
