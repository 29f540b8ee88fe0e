"""Watches a process for changes to a file system that engine/disk did not announce, by Python's audit events."""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from maxbuild.engine import disk

_CHANGES = {
    *("os.rename", "os.remove", "os.link", "os.symlink", "os.mkdir", "os.rmdir", "os.truncate"),
    *("os.chmod", "os.chown", "os.utime", "os.setxattr", "os.removexattr"),
}
_STATEMENTS = ("BEGIN", "COMMIT", "INSERT", "UPDATE", "DELETE", "CREATE")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Watch:
    """What was announced in this process, and what was changed without; SQLite is heard by its statements."""

    def __init__(self, report: Callable[[str], None], allowed: Callable[[str], bool]) -> None:
        """Watch from now to the end of this process; changes of paths that are `allowed` are not reported."""
        self.announced: set[str] = set()
        self.databases: set[str] = set()
        self.paused = False
        self._report = report
        self._allowed = allowed
        self._now = threading.local()
        disk.before_effect, disk.after_effect = self._before, self._after
        self._connect = sqlite3.connect
        sqlite3.connect = self._connect_traced  # type: ignore[assignment]
        sys.addaudithook(self._hear)

    def _before(self, _name: str, path: Path) -> None:
        self.announced.add(str(path))
        self._now.paths = [*self._current(), str(path)]

    def _after(self, _name: str, _path: Path) -> None:
        self._now.paths = self._current()[:-1]

    def _current(self) -> list[str]:
        return list(getattr(self._now, "paths", []))

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.paused:
            return
        if event == "sqlite3.connect":
            self.databases.add(str(arguments[0]))
        elif event in _CHANGES or event.startswith("shutil.") or (event == "open" and _writes(arguments)):
            named = arguments[: 1 if event == "open" else 2]  # what is open already has a number
            paths = [os.fsdecode(value) for value in named if isinstance(value, str | bytes | os.PathLike)]
            if paths and not self._is_announced(paths) and not all(self._allowed(path) for path in paths):
                self._report(f"{event} {' '.join(paths)}")

    def _connect_traced(self, *arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = self._connect(*arguments, **options)
        connection.set_trace_callback(self._hear_statement)
        return connection

    def _hear_statement(self, statement: str) -> None:
        if statement.lstrip().upper().startswith(_STATEMENTS) and not self._current() and not self.paused:
            self._report(f"sqlite {statement}")

    def _is_announced(self, paths: list[str]) -> bool:
        """Return whether one of `paths` is what is being changed now, or is inside of it."""
        current = self._current()
        return any(
            not path.startswith(os.sep)
            or any(path == place or path.startswith(f"{place}{os.sep}") for place in current)
            for path in paths
            if current
        )


def _writes(arguments: tuple[object, ...]) -> bool:
    flags = arguments[2]
    return isinstance(flags, int) and bool(flags & _WRITING)


def watch_worker(report: Path, allowed: Callable[[str], bool]) -> None:
    """Watch this process and append to the file `report`, which must be there, what was not announced."""
    descriptor = os.open(report, os.O_WRONLY | os.O_APPEND)
    Watch(lambda line: os.write(descriptor, f"{line}\n".encode()), allowed)  # type: ignore[arg-type, return-value]


def is_a_steps_own(path: str) -> bool:
    """Return whether `path` is where a step may write, or is no file of anybody's."""
    parts = Path(path).parts
    in_scratch = "scratch" in parts and {"work", "tmp"} & set(parts[parts.index("scratch") + 3 :])
    return bool(in_scratch) or path in ("/dev/null", os.environ.get("MAXBUILD_TOY_LEDGER"))
