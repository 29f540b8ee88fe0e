"""Tables of plain text: columns as wide as what they hold, cut only where a terminal has no room for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from maxbuild.report.terminal import Style, Terminal

_GAP = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `least` is the width it may be cut down to, None where it is never cut."""

    title: str
    right: bool = False
    least: int | None = None
    middle: bool = False
    """Whether a cut leaves both ends, for names that differ at either."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One line of text and how it stands out."""

    text: str
    style: Style = Style.PLAIN


def table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], terminal: Terminal) -> str:
    """Return the table with a head; columns that hold nothing are left out."""
    kept = [index for index in range(len(columns)) if any(row[index].text for row in rows)]
    columns = [columns[index] for index in kept]
    head = [Cell(column.title, Style.DIM) for column in columns]
    lines = [head, *([row[index] for index in kept] for row in rows)]
    widths = _fit(columns, [max(len(line[index].text) for line in lines) for index in range(len(columns))], terminal)
    return "\n".join(_line(columns, line, widths, terminal) for line in lines)


def _fit(columns: Sequence[Column], widths: list[int], terminal: Terminal) -> list[int]:
    """Return the widths, less what has to go: from the last column that may be cut to the first."""
    if terminal.width is None:
        return widths
    excess = sum(widths) + len(_GAP) * (len(widths) - 1) - terminal.width
    for index in reversed(range(len(columns))):
        least = columns[index].least
        if excess > 0 and least is not None and widths[index] > least:
            given = min(excess, widths[index] - least)
            widths[index] -= given
            excess -= given
    return widths


def _line(columns: Sequence[Column], cells: Sequence[Cell], widths: Sequence[int], terminal: Terminal) -> str:
    pieces = []
    for index, (column, cell, width) in enumerate(zip(columns, cells, widths, strict=True)):
        text = cut(cell.text, width, middle=column.middle)
        padding = " " * (width - len(text))
        painted = terminal.paint(text, cell.style)
        last = index == len(columns) - 1
        pieces.append(padding + painted if column.right else painted + ("" if last else padding))
    return _GAP.join(pieces).rstrip()


def cut(text: str, width: int, *, middle: bool = False) -> str:
    """Return `text` in at most `width` columns, with `…` where something is missing."""
    if len(text) <= width:
        return text
    if not middle:
        return text[: width - 1] + "…"
    tail = (width - 1) // 2
    return text[: width - 1 - tail] + "…" + text[len(text) - tail :]
