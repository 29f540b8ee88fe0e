"""The processes that a build has started. Once all are killed, none starts any more."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from maxbuild.engine.cancelled import Cancelled

if TYPE_CHECKING:
    import subprocess


class Children:
    """The process groups that run now, so that all can be killed at once and none starts afterwards."""

    def __init__(self) -> None:
        """Start without any."""
        self.stop = threading.Event()
        self._mutex = threading.Lock()
        self._running: dict[object, Callable[[], None]] = {}
        """What runs, and how it is killed."""

    def start(self, command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start `command` in a group of its own; Cancelled once all were killed."""
        import subprocess  # noqa: PLC0415 - a build whose steps all run in threads starts no process

        with self._mutex:
            if self.stop.is_set():
                raise Cancelled
            process = subprocess.Popen(command, process_group=0, **options)
            self._running[process] = partial(kill_group, process.pid)
        return process

    def add(self, child: object, kill: Callable[[], None]) -> None:
        """Let `kill`, which must not wait for anything, be called when all are killed; Cancelled once all were."""
        with self._mutex:
            if self.stop.is_set():
                raise Cancelled
            self._running[child] = kill

    def remove(self, child: object) -> None:
        """Forget `child`, which has ended or is no longer to be killed with the rest."""
        with self._mutex:
            self._running.pop(child, None)

    def ended(self, process: subprocess.Popen[bytes]) -> int:
        """Wait for `process`, then end what it left running, and return its exit status, minus a signal.

        The group is killed before its leader is reaped: until then nobody else can be given the same number.
        """
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with self._mutex:
            self._running.pop(process, None)
            kill_group(process.pid)
            return process.wait()

    def kill_all(self) -> None:
        """Kill all groups and let none start."""
        self.stop.set()
        with self._mutex:
            for kill in self._running.values():
                kill()


def kill_group(group: int) -> None:
    """Kill the process group `group`, as far as there still is one; its leader must not have been reaped."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
