"""The crew: as many threads as tasks run at once. They take work and leave messages; they decide nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple, TypeAlias

from maxbuild.engine.digest import Digest
from maxbuild.engine.execution import Outcome
from maxbuild.engine.holder import Holder
from maxbuild.engine.store import Store


class Started(NamedTuple):
    """A worker begins to run the task."""

    name: str


class Progressed(NamedTuple):
    """The running task has done `done` of `total` units."""

    name: str
    done: int
    total: int | None


class Waits(NamedTuple):
    """The task waits for the process that holds its lock."""

    name: str
    holder: Holder


class SourcesRead(NamedTuple):
    """A worker is done reading the task's source files."""

    name: str
    digests: dict[Path, Digest]


class Done(NamedTuple):
    """A worker is done with the task, which has a result."""

    name: str
    outcome: Outcome


class Lost(NamedTuple):
    """A worker gave the task back: its input `role` is not what it was."""

    name: str
    role: str


class Broken(NamedTuple):
    """A worker is done with the task, which has no result."""

    name: str
    error: BaseException


Message: TypeAlias = Started | Progressed | Waits | SourcesRead | Done | Lost | Broken
Work: TypeAlias = Callable[[], Message]


class Crew:
    """Threads that carry out work; each piece of work ends with the one message it returns."""

    def __init__(self, store: Store) -> None:
        """Begin without threads: each is started when it is needed, and leaves its connection of `store` closed."""
        self.busy = 0
        self._store = store
        self._work: SimpleQueue[Work | None] = SimpleQueue()
        self._messages: SimpleQueue[Message] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, work: Work) -> None:
        """Have `work` done. It must not raise."""
        self.busy += 1
        if self.busy > len(self._threads):
            thread = threading.Thread(target=self._labour, daemon=True, name=f"maxbuild-{self.busy}")
            self._threads.append(thread)
            thread.start()
        self._work.put(work)

    def tell(self, message: Started | Progressed | Waits) -> None:
        """Leave a message about work that goes on."""
        self._messages.put(message)

    def next(self) -> Message:
        """Wait for the next message."""
        message = self._messages.get()
        if not isinstance(message, Started | Progressed | Waits):
            self.busy -= 1
        return message

    def dismiss(self, patience: float) -> None:
        """Let the threads end, and wait for them `patience` seconds; one that stays is left behind."""
        for _ in self._threads:
            self._work.put(None)
        deadline = time.monotonic() + patience
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _labour(self) -> None:
        try:
            while (work := self._work.get()) is not None:
                self._messages.put(work())
        finally:
            self._store.close_thread()
