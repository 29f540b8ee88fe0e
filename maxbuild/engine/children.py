"""The processes that a build has started. Once all are killed, none starts any more."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
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
        self._running: set[int] = set()

    def start(self, command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start `command` in a group of its own; Cancelled once all were killed."""
        import subprocess  # noqa: PLC0415 - a build whose steps all run in threads starts no process

        with self._mutex:
            if self.stop.is_set():
                raise Cancelled
            process = subprocess.Popen(command, process_group=0, **options)
            self._running.add(process.pid)
        return process

    def ended(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for `process` and then end what it left running.

        The group is killed before its leader is reaped: until then nobody else can be given the same number.
        """
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with self._mutex:
            self._running.discard(process.pid)
            _kill_group(process.pid)
            process.wait()

    def kill_all(self) -> None:
        """Kill all groups and let none start."""
        self.stop.set()
        with self._mutex:
            for group in self._running:
                _kill_group(group)


def _kill_group(group: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
