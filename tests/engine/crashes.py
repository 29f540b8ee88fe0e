"""Support of the tests of crashes and full disks: a small build, and what must hold after one that did not end."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import ToyPlan, toy
from toys import KINDS, LEDGER

from maxbuild.engine import OutputOf, Report, Result, SourceFile, Store, Task, TaskKey, execute, hash_bytes
from maxbuild.engine.journal import Journal, JournalWarning, RunState, runs

WORDS = "one two"


def crash_tasks(words: Path) -> list[Task]:
    """Return a small build that does all there is to do with a disk: publish, adopt, share, consume."""
    source = SourceFile(words)
    return [
        toy("list", "multi_output", {"words": source}, outputs=("list", "parts/*")),
        toy("kept", "pass_through", {"from": source}),
        toy("join", "concat", {"first": OutputOf("list", "list"), "second": OutputOf("kept", "out")}),
    ]


def run_in(store: Store, tasks: list[Task]) -> Report:
    """Build `tasks` in `store` with a journal, as the commands do."""
    with Journal.begin(store, "x", ["test"]) as journal:
        report = execute(ToyPlan(tasks), store, KINDS, scope="x", jobs=1, keep_going=True, on_event=journal)
        journal.end(report)
    return report


@dataclass(frozen=True)
class Place:
    """A folder with a source file, and a store to build in."""

    folder: Path

    @property
    def words(self) -> Path:
        """Return the source file."""
        return self.folder / "words"

    @property
    def store(self) -> Path:
        """Return the root of the store."""
        return self.folder / "store"

    @property
    def base(self) -> Path:
        """Return where this version's layout lies."""
        return self.store / "v1"

    def prepare(self, words: str = WORDS) -> Place:
        """Make the folder and its source file."""
        self.folder.mkdir(parents=True)
        self.words.write_text(words)
        return self

    def run(self, *more: Task) -> Report:
        """Open the store, build with a journal, close it, and return the report."""
        with warnings.catch_warnings(), Store(self.store) as store:
            warnings.simplefilter("ignore", JournalWarning)  # a build that cannot keep one goes on
            return run_in(store, [*crash_tasks(self.words), *more])

    def build(self) -> Mapping[str, Result]:
        """Build all and return the results."""
        report = self.run()
        assert report.complete, report
        return report.results

    def blobs_are_right(self) -> None:
        """Every file under the name of a blob holds what the name says."""
        for path in self.base.glob("cas/sha256/*/*"):
            assert hash_bytes(path.read_bytes()) == path.name

    def left_over(self) -> list[str]:
        """Return what lies in the places of work: folders in scratch, files in locks."""
        scratch = [path for path in (self.base / "scratch").iterdir() if path.is_dir()]
        return sorted(path.name for path in (*scratch, *(self.base / "locks").iterdir()))


@dataclass(frozen=True)
class Clean:
    """What a build from nothing leaves."""

    results: Mapping[str, Result]
    keys: Mapping[str, TaskKey]
    ledger: Path
    left_over: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, place: Place, ledger: Path) -> Clean:
        """Build in the empty `place`."""
        report = place.run()
        keys = {task.name: task.key for task in report.tasks if task.key is not None}
        ledger.unlink()
        return cls(report.results, keys, ledger, place.left_over())

    def next_build_is_right(self, place: Place, *, damaged: bool = False) -> list[str]:
        """Build again in `place` and compare: the same results, no recorded work done again, nothing left over.

        damaged: blobs need not be right before, and rows that can be read may be lost with those that cannot.
        Returns what had to run.
        """
        if not damaged:
            place.blobs_are_right()
        with Store(place.store) as store:
            found = {name for name, key in self.keys.items() if store.find_result(key) is not None}
            before = {run.id: run for run in runs(store)}
        self.ledger.unlink(missing_ok=True)  # what the crashed build ran
        assert place.build() == self.results
        ran = self.ledger.read_text().split() if self.ledger.exists() else []
        assert len(ran) == len(set(ran))
        assert {*ran} >= self.keys.keys() - found
        assert damaged or found.isdisjoint(ran)
        with Store(place.store) as store:
            assert all(store.find_result(key) is not None for key in self.keys.values())
            (new,) = [run for run in runs(store) if run.id not in before]
            assert (new.state, new.complete, new.tasks.keys()) == (RunState.ENDED, True, self.keys.keys())
            assert RunState.RUNNING not in {run.state for run in before.values()}
            store.publish_bytes(b"whoever needs scratch sweeps first")
        assert place.left_over() == self.left_over
        place.blobs_are_right()
        return ran


@pytest.fixture
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clean:
    """Return what a clean build leaves."""
    monkeypatch.setenv(LEDGER, str(tmp_path / "ledger"))
    return Clean.of(Place(tmp_path / "clean").prepare(), tmp_path / "ledger")
