"""Where talk goes: what a stream can show (width, colour, redrawing), and text painted only where colour is wanted."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TextIO

_LEAST_WIDTH = 40
_RESET = "\x1b[0m"


class Style(Enum):
    """How a piece of text stands out; the value is the parameter of the terminal's SGR sequence."""

    PLAIN = ""
    BOLD = "1"
    DIM = "2"
    RED = "31"
    GREEN = "32"
    YELLOW = "33"
    CYAN = "36"
    BOLD_RED = "1;31"


@dataclass(frozen=True, slots=True)
class Terminal:
    """A stream and what it can show.

    `width` is in columns, None where lines have no end (a file, a pipe): there nothing is ever cut.
    """

    stream: TextIO
    width: int | None = None
    colour: bool = False
    live: bool = False
    """Whether lines already written can be drawn anew."""

    def write(self, text: str = "") -> None:
        """Write one line, or several, and hand them on at once."""
        print(text, file=self.stream, flush=True)

    def paint(self, text: str, style: Style) -> str:
        """Return `text` in `style`, or as it is where there is no colour."""
        if not self.colour or style is Style.PLAIN or not text:
            return text
        return f"\x1b[{style.value}m{text}{_RESET}"


def terminal_of(stream: TextIO, environ: Mapping[str, str]) -> Terminal:
    """Return what `stream` can show, by the stream itself, `NO_COLOR`, `TERM` and `COLUMNS`."""
    if not stream.isatty():
        return Terminal(stream)
    able = environ.get("TERM", "") not in {"dumb", "unknown"}
    return Terminal(stream, width=_width(stream, environ), colour=able and not environ.get("NO_COLOR"), live=able)


def _width(stream: TextIO, environ: Mapping[str, str]) -> int:
    chosen = environ.get("COLUMNS", "")
    if chosen.isdecimal() and int(chosen) > 0:
        return max(_LEAST_WIDTH, int(chosen))
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):  # a stream that claims to be a terminal and has no size
        columns = 0
    return max(_LEAST_WIDTH, columns) if columns else 80
