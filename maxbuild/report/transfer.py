"""How far reading or writing much has come: one line that is drawn anew on a terminal, nothing elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from maxbuild.engine import Progress
from maxbuild.report.terminal import Terminal
from maxbuild.report.units import size

_SECONDS_BETWEEN = 0.1
_ERASE = "\r\x1b[K"


@contextmanager
def show_transfer(terminal: Terminal, verb: str, clock: Callable[[], float] = time.monotonic) -> Iterator[Progress]:
    """Lend a function that takes bytes done and bytes in all; nothing of it stays on `terminal`."""
    next_time = clock()

    def show(done: int, total: int | None) -> None:
        nonlocal next_time
        if terminal.live and clock() >= next_time:
            next_time = clock() + _SECONDS_BETWEEN
            of_all = "" if total is None else f" of {size(total)}"
            print(f"{_ERASE}{verb} {size(done)}{of_all}", end="", file=terminal.stream, flush=True)

    try:
        yield show
    finally:
        if terminal.live:
            print(_ERASE, end="", file=terminal.stream, flush=True)
