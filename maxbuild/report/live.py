"""The display that is drawn anew while tasks run. It alone imports rich, so it is imported only when a task runs."""

from __future__ import annotations

import threading

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from maxbuild.engine import Event, State
from maxbuild.report import units
from maxbuild.report.progress import Tally, waiting_line
from maxbuild.report.terminal import Terminal
from maxbuild.report.words import one_line

_DRAWS_PER_SECOND = 8
_MOST_LINES = 12
_BAR_WIDTH = 16
_TIME_WIDTH = 8


class LiveBoard:
    """The running tasks, each with its time, and below them how the build stands."""

    def __init__(self, terminal: Terminal, tally: Tally) -> None:
        """Begin to draw on `terminal`; a thread does it, so that clocks go on while nothing happens."""
        self._tally = tally
        self._mutex = threading.Lock()
        self._spinner = Spinner("dots", style="cyan")
        console = Console(
            file=terminal.stream,
            force_terminal=True,
            no_color=not terminal.colour,
            width=terminal.width,
            highlight=False,
            markup=False,
            emoji=False,
        )
        self._live = Live(
            console=console, get_renderable=self._draw, refresh_per_second=_DRAWS_PER_SECOND, transient=True
        )
        self._live.start()

    def take(self, event: Event) -> None:
        """Count one event; the next drawing shows it."""
        with self._mutex:
            self._tally.take(event)

    def close(self) -> None:
        """Stop drawing and leave nothing on the terminal."""
        self._live.stop()

    def _draw(self) -> RenderableType:
        with self._mutex:
            return Group(self._running(), *self._waiting(), self._standing())

    def _waiting(self) -> list[Text]:
        waiting = list(self._tally.waiting.items())[:_MOST_LINES]
        return [Text(f"  {one_line(waiting_line(name, whom))}", style="yellow") for name, whom in waiting]

    def _running(self) -> Table:
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True, min_width=1)
        grid.add_column(overflow="ellipsis")  # the one column that gives way where the terminal is narrow
        grid.add_column(justify="right", no_wrap=True, style="dim", min_width=_TIME_WIDTH)
        grid.add_column(no_wrap=True, min_width=_BAR_WIDTH)
        now = self._tally.clock()
        tasks = list(self._tally.running.items())
        for name, running in tasks[:_MOST_LINES]:
            share = running.share
            bar = Text("") if share is None else ProgressBar(total=1.0, completed=share, width=_BAR_WIDTH)
            grid.add_row(
                self._spinner,
                Text(one_line(name), no_wrap=True, overflow="ellipsis"),
                units.duration(now - running.since),
                bar,
            )
        if len(tasks) > _MOST_LINES:
            grid.add_row("", Text(f"and {len(tasks) - _MOST_LINES} more", style="dim"), "", "")
        return grid

    def _standing(self) -> Text:
        tally = self._tally
        parts = [
            (f"{tally.count(State.BUILT)} built", "green"),
            *([(f"{fetched} fetched", "green")] if (fetched := tally.count(State.FETCHED)) else []),
            (f"{tally.count(State.CACHED)} cached", ""),
            (f"{tally.left} left", "bold"),
            (units.duration(tally.elapsed), "dim"),
            (units.size(tally.bytes), "dim"),
        ]
        if failed := tally.count(State.FAILED):
            parts.insert(0, (f"{failed} failed", "bold red"))
        return Text("  ").join(Text(text, style=style) for text, style in parts)
