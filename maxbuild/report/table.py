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
    group: str = ""
    """What stands above the title, once for neighbours that have it in common."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One line of text and how it stands out."""

    text: str
    style: Style = Style.PLAIN


def table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], terminal: Terminal) -> str:
    """Return the table with a head; columns that hold nothing are left out."""
    kept = _kept(columns, rows)
    columns = [columns[index] for index in kept]
    head = [Cell(column.title, Style.DIM) for column in columns]
    lines = [head, *([row[index] for index in kept] for row in rows)]
    widths = _fit(columns, _widths(columns, lines), terminal)
    groups = [_groups(columns, widths, terminal)] if any(column.group for column in columns) else []
    return "\n".join([*groups, *(_line(columns, line, widths, terminal) for line in lines)])


def natural_width(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> int:
    """Return how wide the table is where nothing is cut; no group's name may be wider than its columns."""
    kept = _kept(columns, rows)
    titles = [[Cell(column.title) for column in columns], *rows]
    lines = [[line[index] for index in kept] for line in titles]
    return sum(_widths(kept, lines)) + len(_GAP) * (len(kept) - 1)


def _kept(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> list[int]:
    return [index for index in range(len(columns)) if any(row[index].text for row in rows)]


def _widths(columns: Sequence[object], lines: Sequence[Sequence[Cell]]) -> list[int]:
    return [max(len(line[index].text) for line in lines) for index in range(len(columns))]


def _groups(columns: Sequence[Column], widths: Sequence[int], terminal: Terminal) -> str:
    """Return the line above the titles: each group's name where its first column begins."""
    line, end, before = "", 0, ""
    for column, width in zip(columns, widths, strict=True):
        if column.group and column.group != before:
            line = line.ljust(end) + column.group
        end += width + len(_GAP)
        before = column.group
    return terminal.paint(line, Style.DIM)


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
