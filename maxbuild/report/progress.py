"""Progress while a build runs: a display that is drawn anew on a terminal, one line per finished task elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from maxbuild.engine import (
    Event,
    GraphGrew,
    OnEvent,
    State,
    TaskFinished,
    TaskProgress,
    TaskReport,
    TaskStarted,
    TaskWaits,
)
from maxbuild.errors import MaxbuildError
from maxbuild.report import units
from maxbuild.report.terminal import Terminal
from maxbuild.report.words import WORDS, one_line

if TYPE_CHECKING:
    from maxbuild.report.live import LiveBoard

Clock = Callable[[], float]

_ARRIVED = (State.BUILT, State.FETCHED)
_TOLD = (*_ARRIVED, State.FAILED)
"""The ends of tasks that get a line of their own."""


@dataclass(slots=True)
class Running:
    """A task that runs: since when (seconds of the tally's clock), and how far it is."""

    since: float
    done: int = 0
    total: int | None = None

    @property
    def share(self) -> float | None:
        """Return how much of the work is done, from 0 to 1, None where that is not known."""
        return min(1.0, self.done / self.total) if self.total else None


@dataclass(slots=True)
class Tally:
    """Where a build stands, by the events so far."""

    clock: Clock = time.monotonic
    begin: float = field(init=False)
    known: set[str] = field(default_factory=set)
    running: dict[str, Running] = field(default_factory=dict)
    waiting: dict[str, str] = field(default_factory=dict)
    """For whom each task waits that another process has."""
    finished: dict[str, TaskReport] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Start the watch."""
        self.begin = self.clock()

    def take(self, event: Event) -> None:
        """Count one event. A task may finish more than once: what it was made of can turn out to be lost."""
        match event:
            case GraphGrew(names):
                self.known.update(names)
            case TaskStarted(name):
                self.waiting.pop(name, None)
                self.running[name] = Running(self.clock())
            case TaskWaits(name, holder):
                self.waiting[name] = holder.describe()
            case TaskProgress(name, done, total):
                if name in self.running:
                    self.running[name].done, self.running[name].total = done, total
            case TaskFinished(report):
                self.running.pop(report.name, None)
                self.waiting.pop(report.name, None)
                self.finished[report.name] = report

    def count(self, state: State) -> int:
        """Return how many tasks have come to `state`."""
        return sum(report.state is state for report in self.finished.values())

    @property
    def left(self) -> int:
        """Return how many of the known tasks have not come to an end, running ones included."""
        return len(self.known - self.finished.keys())

    @property
    def elapsed(self) -> float:
        """Return the seconds since the build began."""
        return self.clock() - self.begin

    @property
    def bytes(self) -> int:
        """Return how many bytes the tasks left that ran or were fetched."""
        return sum(report.bytes or 0 for report in self.finished.values() if report.state in _ARRIVED)


@contextmanager
def show_progress(terminal: Terminal) -> Iterator[OnEvent]:
    """Lend the function that shows events on `terminal`; what is drawn anew is gone at the end."""
    if not terminal.live:
        yield PlainLines(terminal)
        return
    board: list[LiveBoard] = []
    tally = Tally()

    def show(event: Event) -> None:
        if isinstance(event, TaskStarted | TaskWaits) and not board:
            # Imported when the first task runs or waits: a build with nothing to do has no use for rich.
            from maxbuild.report.live import LiveBoard  # noqa: PLC0415

            board.append(LiveBoard(terminal, tally))
        if board:
            board[0].take(event)
        else:
            tally.take(event)

    try:
        yield show
    finally:
        for drawn in board:
            drawn.close()


class PlainLines:
    """One line per task that ran or was fetched, as it finishes, and one for each that has to wait for somebody."""

    def __init__(self, terminal: Terminal) -> None:
        """Write to `terminal`."""
        self._terminal = terminal
        self._told: set[TaskReport] = set()
        self._waits: dict[str, str] = {}

    def __call__(self, event: Event) -> None:
        """Write a line if `event` is the end of a task that ran, or says that one waits for somebody else now."""
        match event:
            case TaskWaits(name, holder) if self._waits.get(name) != holder.describe():
                self._waits[name] = holder.describe()
                self._terminal.write(one_line(waiting_line(name, holder.describe())))
            case TaskFinished(report) if report.state in _TOLD and report not in self._told:
                self._told.add(report)  # the end of a task is told again when its consumers have to look once more
                self._terminal.write(finished_line(report, self._terminal))


def waiting_line(name: str, whom: str) -> str:
    """Return `compile main/decoder waits for process 12, which has the task`."""
    return f"{name} waits for {whom}"


def finished_line(report: TaskReport, terminal: Terminal) -> str:
    """Return `built    trace main  3.1 s  1.8 MB`, with the message instead of the numbers where it failed."""
    word, style = WORDS[report.state]
    parts = [terminal.paint(f"{word:<7}", style), one_line(report.name)]
    if report.error is not None:
        parts.append(one_line(_gist(report.name, report.error)))
    if report.seconds is not None:
        parts.append(units.duration(report.seconds))
    if report.bytes is not None:
        parts.append(units.size(report.bytes))
    return "  ".join(parts)


def _gist(name: str, error: MaxbuildError) -> str:
    """Return what went wrong in a few words: the first cause, where the message says no more than the name."""
    return error.causes[0] if name in error.message and error.causes else error.message
