"""Writing a journal while a build runs.

A killed build leaves the lines of what it did. Tasks that did nothing are told with the next that did something, or at
the end; where nothing did anything and the tasks are those of the run before, the end refers to that run instead.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from maxbuild.engine import disk
from maxbuild.engine.events import Event, TaskFinished
from maxbuild.engine.journal.form import SCHEMA, SUFFIX, pointer_path, runs_folder, spell, spell_time, task_line
from maxbuild.engine.report import Report, State, TaskReport
from maxbuild.engine.store import Store
from maxbuild.errors import StoreError

_QUIET = frozenset({State.CACHED, State.SKIPPED})
"""The states of tasks that did nothing."""


class JournalWarning(UserWarning):
    """A journal cannot be written: the build goes on, and nobody will be able to ask what it did."""


class Journal:
    """The journal of one build, from `begin` to `end`; one that is closed without `end` is that of a build that died.

    Call it with every event of the build. Where the store may only be read it writes nothing.
    """

    def __init__(self, path: Path, scope: str, descriptor: int | None) -> None:
        """Write to the file at `path`, which `descriptor` locks; to nothing where there is none."""
        self.run = path.name.removesuffix(SUFFIX)
        self._path = path
        self._scope = scope
        self._descriptor = descriptor
        self._told: dict[str, TaskReport] = {}
        """What was written last of each task."""
        self._waiting: dict[str, TaskReport] = {}
        """What is still to be written."""

    @classmethod
    def begin(
        cls,
        store: Store,
        scope: str,
        command: Sequence[str],
        *,
        version: str = "",
        clock: Callable[[], float] = time.time,
    ) -> Self:
        """Begin the journal of a build in `scope` that `command` asked for; `clock` gives seconds since 1970."""
        now = clock()
        run = _run_id(now)
        path = runs_folder(store) / f"{run}{SUFFIX}"
        journal = cls(path, scope, None if store.read_only else _open_locked(path))
        journal._append(
            {
                "run": run,
                "schema": SCHEMA,
                "scope": scope,
                "begun": spell_time(now),
                "command": list(command),
                "maxbuild": version,
            }
        )
        return journal

    def __enter__(self) -> Self:
        """Return the journal."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the journal."""
        self.close()

    @property
    def is_written(self) -> bool:
        """Return whether there will be something to read."""
        return self._descriptor is not None

    def __call__(self, event: Event) -> None:
        """Take note of the end of a task; no other event is of interest."""
        if not isinstance(event, TaskFinished) or self._descriptor is None:
            return
        report = event.report
        if self._told.get(report.name) is report:  # told again, because its consumers have to look once more
            return
        self._waiting[report.name] = report
        if report.state not in _QUIET:
            self._write_waiting()

    def end(self, report: Report, *, clock: Callable[[], float] = time.time) -> None:
        """Write what became of all tasks, as far as that is not written yet, and that the build has ended."""
        if self._descriptor is None:
            return
        for task in report.tasks:
            if self._told.get(task.name) is not task:
                self._waiting[task.name] = task
        ended: dict[str, object] = {"ended": spell_time(clock())}
        tasks = _fingerprint(report.tasks)
        if same := self._run_like_this(report, tasks):
            ended["same_tasks_as"] = same
        else:
            self._write_waiting()
        ended["counts"] = Counter(str(task.state) for task in report.tasks)
        self._append({**ended, "interrupted": report.interrupted})
        if not same and report.complete:
            self._point_here(tasks)
        self.close()

    def close(self) -> None:
        """Let go of the file; nothing happens a second time."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _run_like_this(self, report: Report, tasks: str) -> str | None:
        """Return a run that has listed the very tasks of `report`, where all of these were found done."""
        if self._told or not report.complete or len(report.in_state(State.CACHED)) < len(report.tasks):
            return None
        match _read_json(pointer_path(self._path.parent, self._scope)):
            case {"scope": self._scope, "run": str(run), "tasks": str(theirs)} if theirs == tasks:
                there = run == Path(run).name and (self._path.parent / f"{run}{SUFFIX}").exists()
                return run if there else None
        return None

    def _point_here(self, tasks: str) -> None:
        """Let later builds of the same tasks refer to this one."""
        fresh = self._path.with_suffix(".new")

        def point() -> None:
            disk.sync_file(self._path)  # what others refer to must outlive a loss of power
            disk.append(fresh, spell({"scope": self._scope, "run": self.run, "tasks": tasks}).encode())
            disk.rename(fresh, pointer_path(self._path.parent, self._scope))

        self._attempt(point)

    def _write_waiting(self) -> None:
        reports = list(self._waiting.values())
        self._waiting.clear()
        self._told.update((report.name, report) for report in reports)
        self._append(*map(task_line, reports))

    def _append(self, *lines: Mapping[str, object]) -> None:
        if self._descriptor is not None and lines:
            self._attempt(lambda: disk.append(self._path, "".join(map(spell, lines)).encode()))

    def _attempt(self, effect: Callable[[], None]) -> None:
        try:
            effect()
        except StoreError as error:
            _warn(error)
            self.close()


def _run_id(now: float) -> str:
    """Return a name that sorts by time, and that no other run has."""
    return f"{spell_time(now).replace('-', '').replace(':', '')}-{os.urandom(4).hex()}"


def _open_locked(path: Path) -> int | None:
    """Open the file of a run and lock it, so that everybody can see that the run goes on; None where that fails."""
    try:
        descriptor = disk.open_lock(path)
    except StoreError as error:
        _warn(error)
        return None
    if descriptor is not None:
        with suppress(OSError):  # without locks a run that goes on looks like one that died
            fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def _fingerprint(tasks: Iterable[TaskReport]) -> str:
    """Return a digest of which tasks there are and of the key of each."""
    names = sorted([f"{task.name}\0{task.key}\0" for task in tasks])
    return hashlib.sha256("".join(names).encode(errors="backslashreplace")).hexdigest()


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def _warn(error: StoreError) -> None:
    warnings.warn(f"what this build does is not written down: {error}", JournalWarning, stacklevel=2)
