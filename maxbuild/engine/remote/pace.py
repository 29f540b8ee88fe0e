"""The pace of a transfer: an exchange that moves too little is cut short, however it drips."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Pace:
    """Watches one exchange from a thread of its own, and calls `cut` when a window passes with too few bytes.

    Limits for single reads do not help against a byte now and then; in headers nothing but a thread can look.
    """

    def __init__(self, window: float, slowest: int, cut: Callable[[], None]) -> None:
        """Take the window in seconds and the slowest pace in bytes per second."""
        self._window, self._least, self._cut = window, window * slowest, cut
        self._moved = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="maxbuild-remote-pace", daemon=True)
        self.was_cut = False

    def move(self, count: int) -> None:
        """Note that `count` further bytes came or went."""
        self._moved += count

    def _watch(self) -> None:
        before = 0
        while not self._done.wait(self._window):
            if self._moved - before < self._least:
                self.was_cut = True
                self._cut()
            before = self._moved

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()  # so that it cuts nothing that another exchange uses by now
