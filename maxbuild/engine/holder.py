"""Who holds a lock: a note in the lock file, and what the system says of the process that wrote it.

A note is for people. Nothing is decided by it, so one that is torn, stale or forged costs no more than a wrong word.
"""

from __future__ import annotations

import os
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

_LONGEST_NOTE = 512
_STATE, _STARTED = 0, 19  # of the fields of /proc/<pid>/stat that come after the command, see proc(5)


class HolderState(Enum):
    """What is known of the process that holds a lock."""

    BUSY = "busy"
    STOPPED = "stopped"
    UNSEEN = "unseen"
    """It runs on another host or in another container, or it died and something that it started still has the lock."""


class Holder(NamedTuple):
    """The process that holds a lock."""

    pid: int
    host: str
    state: HolderState

    def describe(self) -> str:
        """Return the end of a sentence that begins with "waiting for"."""
        match self.state:
            case HolderState.STOPPED:
                return f"process {self.pid}, which is stopped (`kill -CONT {self.pid}` wakes it up)"
            case HolderState.UNSEEN:
                return f"process {self.pid} on `{self.host}`, which cannot be seen from here"
            case HolderState.BUSY if self.pid == os.getpid():
                return "an equal task of this build"
            case HolderState.BUSY:
                return f"process {self.pid}, which has the task"


def note() -> bytes:
    """Return what this process writes into a lock file that it holds."""
    return _note(os.getpid())


def read_holder(path: Path) -> Holder | None:
    """Return who signed the lock file `path`; None where nobody did, or what is written there is no such note."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        pid, started, host = os.pread(descriptor, _LONGEST_NOTE, 0).decode().splitlines()[0].split(" ")
        return Holder(int(pid), host, _state(int(pid), started, host))
    except (OSError, ValueError, IndexError):
        return None
    finally:
        os.close(descriptor)


@lru_cache(maxsize=1)
def _note(pid: int) -> bytes:
    """Return the line `<pid> <start time> <host>`: a number is given again, a number and its start time are not."""
    fields = _status(pid)
    return f"{pid} {fields[_STARTED] if fields else '?'} {os.uname().nodename}\n".encode()


def _state(pid: int, started: str, host: str) -> HolderState:
    fields = _status(pid)
    if host != os.uname().nodename or fields is None or fields[_STARTED] != started:
        return HolderState.UNSEEN
    return HolderState.STOPPED if fields[_STATE] == "T" else HolderState.BUSY


def _status(pid: int) -> list[str] | None:
    """Return the fields of /proc/<pid>/stat after the command, which may hold blanks and brackets itself."""
    try:
        fields = Path(f"/proc/{pid:d}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return fields if len(fields) > _STARTED else None
