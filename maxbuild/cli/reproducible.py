"""`warm --verify-reproducible`: the packages built a second time, in a clean room, and compared byte for byte."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from maxbuild.cli.building import Wishes, build
from maxbuild.engine import Kind, Plan, Report, State, Store, TaskReport
from maxbuild.engine.executor import keep_log
from maxbuild.errors import MaxbuildError, TaskFailed
from maxbuild.report.reproducible import difference_error, reproducible_content, reproducible_text
from maxbuild.report.summary import failures, tasks_table
from maxbuild.report.terminal import Terminal
from maxbuild.reproducible.clean_room import open_clean_room
from maxbuild.reproducible.compare import Build, Comparison, compare_packages

_SECOND = "docs/reproducible.md lists what a second build changes"


class PackagingPlan(Plan, Protocol):
    """A plan whose package tasks are known by target."""

    def package_tasks(self) -> Mapping[str, str]:
        """Return for each target the name of its package task."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What came of a second build: every package compared, none where it failed, the errors, the seconds it took."""

    comparisons: Sequence[Comparison]
    errors: Sequence[MaxbuildError]
    seconds: float

    def text(self) -> str:
        """Return the line that sums up."""
        return reproducible_text(self.comparisons, self.seconds)

    def content(self) -> dict[str, object]:
        """Return it for a JSON document."""
        return reproducible_content(self.comparisons, self.errors, self.seconds)


def verify_reproducible(
    plan: PackagingPlan, first: Report, store: Store, kinds: Mapping[str, Kind], wishes: Wishes, talk: Terminal
) -> Verification:
    """Build again what `first` came to in `store`, and compare the packages; the clean room is gone afterwards.

    Raise KeyboardInterrupt where the second build was interrupted, StoreError where the disk refuses.
    """
    begin = time.monotonic()
    talk.write("building again from an empty store, as another user elsewhere")
    with open_clean_room(first, store, kinds) as room:
        again = replace(wishes, executor=room.executor, sharing=None, frozen=False, rerun=(), lint=None)
        second = build(plan, room.store, room.kinds, again, talk).report
        seconds = time.monotonic() - begin
        if second.interrupted:
            raise KeyboardInterrupt
        if wishes.verbose:
            talk.write(f"{tasks_table(second, talk, afterwards=True)}\n")
        if not second.complete:
            return Verification((), _failures(wishes.scope, second, store), seconds)
        comparisons = compare_packages(plan.package_tasks(), Build(first, store), Build(second, room.store))
    errors = [difference_error(wishes.scope, found) for found in comparisons if not found.identical]
    return Verification(comparisons, errors, seconds)


def _failures(name: str, second: Report, store: Store) -> Sequence[MaxbuildError]:
    """Return the errors of a second build that failed; the logs of its tasks are kept in `store`."""
    kept = [_keep_log(task, store) for task in second.in_state(State.FAILED) if task.error is not None]
    return [
        TaskFailed(
            f"`{name}` could not be built a second time",
            causes=(error.message, *error.causes),
            hint=f"{_SECOND}{f'; see the whole output in {log}' if log is not None else ''}",
        )
        for error, log in zip(failures(second), kept, strict=True)
    ]


def _keep_log(task: TaskReport, store: Store) -> Path | None:
    """Put the log of a task of the clean room, which will be gone, where `maxbuild log` looks for it in `store`."""
    if task.log is None or task.key is None:
        return None
    log = store.log_path(task.key)
    keep_log(log, task.log.read_text(errors="replace"))
    return log
