"""Reading journals: what the runs of the past did, and which results they used. What makes no sense is passed over."""

from __future__ import annotations

import errno
import fcntl
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any

from maxbuild.engine import disk
from maxbuild.engine.digest import TaskKey
from maxbuild.engine.journal.form import SCHEMA, SUFFIX, runs_folder, spell
from maxbuild.engine.journal.lines import RunTask, parse, read_counts, read_task, read_time
from maxbuild.engine.report import DONE, State
from maxbuild.engine.store import Store
from maxbuild.errors import UsageError


class RunState(StrEnum):
    """How a run came to its end."""

    ENDED = "ended"
    """Nothing was left that it could do, which does not say that nothing failed."""
    INTERRUPTED = "interrupted"
    """Somebody stopped it, and it said so."""
    DIED = "died"
    """It was killed, or it broke off on a failing disk: it never said that it had ended."""
    RUNNING = "running"
    """It goes on."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run: `begun` and `ended` in seconds since 1970, and the latest state of every task.

    `same_as` is the run that it refers to for tasks that were found done; where that is gone, `complete` is False
    and `tasks` lacks them.
    """

    id: str
    scope: str
    begun: float
    command: tuple[str, ...]
    version: str
    state: RunState
    ended: float | None
    pinned: bool
    tasks: Mapping[str, RunTask]
    counts: Mapping[str, int]
    same_as: str | None = None
    complete: bool = True


def runs(store: Store) -> list[Run]:
    """Return all runs, the newest first."""
    return list(each_run(store))


def each_run(store: Store, scope: str | None = None) -> Iterator[Run]:
    """Yield all runs, of `scope` where that is given, the newest first; each is read when it is asked for."""
    reader = _Reader(runs_folder(store))
    for name in run_ids(store):
        if scope is None or reader.scope_of(name) == scope:
            run = reader.read(name)
            if run is not None:
                yield run


def run_ids(store: Store) -> list[str]:
    """Return the ids of all files that may be journals, the newest first."""
    try:
        with os.scandir(runs_folder(store)) as entries:
            names = [entry.name for entry in entries if entry.name.endswith(SUFFIX) and entry.is_file()]
    except OSError:
        return []
    return sorted((name.removesuffix(SUFFIX) for name in names), reverse=True)


def find_run(store: Store, run: str) -> Run | None:
    """Return the run of that id; None where there is none."""
    return _Reader(runs_folder(store)).read(run) if run in run_ids(store) else None


def newest_run(store: Store, scope: str | None = None, *, before: int = 0) -> Run | None:
    """Return the newest run, of `scope` where that is given, or the one `before` so many others; None without one."""
    return next(islice(each_run(store, scope), before, None), None)


def used(store: Store) -> Mapping[TaskKey, float]:
    """Return the keys of all results that any run made or found, with the time at which the newest of them began."""
    newest: dict[TaskKey, float] = {}
    for run in runs(store):
        for task in run.tasks.values():
            if task.key is not None and task.state in DONE:
                newest[task.key] = max(run.begun, newest.get(task.key, run.begun))
    return newest


def pin(store: Store, run: str) -> None:
    """Mark the run of that id as one to keep; UsageError where there is none."""
    _mark(store, run, pinned=True)


def unpin(store: Store, run: str) -> None:
    """Take the mark of `pin` away; UsageError where there is no such run."""
    _mark(store, run, pinned=False)


def _mark(store: Store, run: str, *, pinned: bool) -> None:
    store.check_writable()
    if find_run(store, run) is None:
        raise UsageError(f"there is no run `{run}`", hint="`maxbuild runs` lists them")
    path = runs_folder(store) / f"{run}{SUFFIX}"
    # A build that was killed may have left half a line: this one must not become its end.
    disk.append(path, ("\n" + spell({"pinned": pinned})).encode())


@dataclass(slots=True)
class _Lines:
    """What the lines of one file say, before what they refer to is looked up."""

    begin: Mapping[str, Any] = field(default_factory=dict)
    end: Mapping[str, Any] = field(default_factory=dict)
    tasks: dict[str, RunTask] = field(default_factory=dict)
    pinned: bool = False


class _Reader:
    """Reads journals in one folder, each file once."""

    def __init__(self, folder: Path) -> None:
        """Read nothing yet."""
        self._folder = folder
        self._found_done: dict[str, Mapping[str, RunTask] | None] = {}
        """The tasks of runs that others refer to, as they find them."""

    def scope_of(self, name: str) -> str | None:
        """Return the scope of a run by its first line alone."""
        try:
            with self._path(name).open("rb") as file:
                return _begin(parse(file.readline()), name).get("scope")
        except OSError:
            return None

    def read(self, name: str) -> Run | None:
        """Return the run called `name`; None where its file is no journal."""
        lines = self._lines(name)
        if not lines.begin:
            return None
        same_as = lines.end.get("same_tasks_as")
        same = self._as_found_done(same_as) if isinstance(same_as, str) else {}
        tasks = lines.tasks if not same else {**same, **lines.tasks} if lines.tasks else same
        counted = read_counts(lines.end.get("counts")) or Counter(str(task.state) for task in tasks.values())
        return Run(
            id=name,
            scope=lines.begin["scope"],
            begun=read_time(lines.begin["begun"]),
            command=tuple(map(str, lines.begin["command"])),
            version=str(lines.begin.get("maxbuild", "")),
            state=self._state(name, lines.end),
            ended=read_time(lines.end["ended"]) if lines.end else None,
            pinned=lines.pinned,
            tasks=tasks,
            counts=counted,
            same_as=same_as if isinstance(same_as, str) else None,
            complete=same is not None,
        )

    def _lines(self, name: str) -> _Lines:
        found = _Lines()
        for line in self._whole_lines(name):
            match line:
                case {"run": _}:
                    found.begin = found.begin or _begin(line, name)
                case {"task": _}:
                    task = read_task(line)
                    if task is not None:
                        found.tasks.pop(task.name, None)
                        found.tasks[task.name] = task
                case {"ended": str(ended)} if _is_time(ended):
                    found.end = line
                case {"pinned": bool(pinned)}:
                    found.pinned = pinned
        return found

    def _whole_lines(self, name: str) -> Iterator[Mapping[str, Any]]:
        try:
            content = self._path(name).read_bytes()
        except OSError:
            return
        for line in content.split(b"\n")[:-1]:  # what follows the last newline is half a line
            yield parse(line)

    def _as_found_done(self, name: str) -> Mapping[str, RunTask] | None:
        """Return the tasks of a run that another refers to, as that other found them; None where it is gone."""
        if name not in self._found_done:
            lines = self._lines(name) if name == Path(name).name else _Lines()
            self._found_done[name] = (
                {
                    task.name: replace(task, state=State.CACHED, explanations=(), error=None, text=None)
                    for task in lines.tasks.values()
                }
                if lines.begin
                else None
            )
        return self._found_done[name]

    def _state(self, name: str, end: Mapping[str, Any]) -> RunState:
        if end:
            return RunState.INTERRUPTED if end.get("interrupted") is True else RunState.ENDED
        return RunState.RUNNING if _goes_on(self._path(name)) else RunState.DIED

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}{SUFFIX}"


def _begin(line: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the first line of the run called `name`, nothing where it is none, or of a later schema."""
    match line:
        case {"run": str(run), "schema": int(schema), "scope": str(), "begun": str(begun), "command": list()}:
            return line if (run, schema) == (name, SCHEMA) and _is_time(begun) else {}
    return {}


def _is_time(text: str) -> bool:
    try:
        read_time(text)
    except (ValueError, OverflowError):
        return False
    return True


def _goes_on(path: Path) -> bool:
    """Return whether the process lives that writes the journal at `path`: it holds a lock on it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno == errno.EWOULDBLOCK
    finally:
        os.close(descriptor)
    return False
