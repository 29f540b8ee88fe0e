"""A picture as SVG, drawn here: columns of boxes from left to right, coloured by kind, marked by state.

The same picture gives the same bytes: nothing depends on the host, its fonts included.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from maxbuild.engine import State
from maxbuild.report.inks import ink_of
from maxbuild.report.layout import Heights, Item, Layout, generations, lay_out
from maxbuild.report.lettering import FONT, PAPER, QUIET, fitting, text, width_of
from maxbuild.report.picture import Box, Picture
from maxbuild.report.table import cut

_TITLE, _DETAIL = 13.0, 10.5
_BOX_HEIGHT = 46.0
_GAP = 14.0
_PASSING = 16.0
_MARGIN = 36.0
_HEAD = 112.0
_FOOT = 64.0
_LEAST_WIDTH, _MOST_WIDTH = 150.0, 330.0
_LONGEST_TITLE, _LONGEST_DETAIL = 44, 56


_MARKS: Mapping[State, tuple[str, str]] = {
    State.CACHED: ("#3d9a3a", "M-3.2 .2 L-1 2.5 L3.3 -2.2"),
    State.WOULD_RUN: ("#d9930d", "M-1.7 -2.9 L2.8 0 L-1.7 2.9 Z"),
    State.WAITING: ("#98a1ac", "M-2.6 0 h.01 M0 0 h.01 M2.6 0 h.01"),
    State.FAILED: ("#cf3a35", "M-2.4 -2.4 L2.4 2.4 M2.4 -2.4 L-2.4 2.4"),
}
_LEGEND = ((State.CACHED, "cached"), (State.WOULD_RUN, "would build"), (State.WAITING, "waiting for its inputs"))


@dataclass(frozen=True, slots=True)
class Sheet:
    """Where everything is on the sheet, in pixels: the left edge and the width of each column, and the layout."""

    layout: Layout
    lefts: Sequence[float]
    widths: Sequence[float]
    width: float
    height: float

    def middle(self, item: Item) -> float:
        """Return the height at which the middle of `item` is."""
        return _HEAD + self.layout.middles[item]


def svg(picture: Picture) -> str:
    """Return the text of the SVG file."""
    columns = _columns(picture)
    layout = lay_out(columns, picture.arrows, Heights(_BOX_HEIGHT + _GAP, _PASSING))
    sheet = _sheet(picture, layout, columns)
    parts = [
        _opening(sheet),
        f"<title>{escape(picture.title)}: {escape(picture.summary)}</title>",
        _definitions(picture),
        f'<rect width="100%" height="100%" fill="{PAPER}"/>',
        text(_MARGIN, 44, 21, picture.title, weight=650),
        text(_MARGIN, 66, 12.5, picture.summary, colour=QUIET),
        *(_heading(column, index, picture, sheet) for index, column in enumerate(layout.columns)),
        *(_arrow(route, picture, columns, sheet) for route in layout.routes.values()),
        *(_box(picture.boxes[name], columns[name], sheet) for column in layout.columns for name in column),
        _legend(picture, sheet),
        "</svg>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _opening(sheet: Sheet) -> str:
    width, height = f"{sheet.width:.0f}", f"{sheet.height:.0f}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="{FONT}" role="img">'
    )


def _columns(picture: Picture) -> dict[str, int]:
    """Return the column of each box; what is not known yet goes after what tells it, one column per kind."""
    columns = generations(picture.boxes, picture.arrows)
    kinds = list(dict.fromkeys(box.kind for box in picture.boxes.values() if box.task is None))
    for a, b in picture.arrows:
        if picture.boxes[b].task is None:
            columns[b] = columns[a] + 1 + kinds.index(picture.boxes[b].kind)
    return columns


def _sheet(picture: Picture, layout: Layout, columns: Mapping[str, int]) -> Sheet:
    widths = [
        min(_MOST_WIDTH, max([_LEAST_WIDTH, *(_box_width(picture.boxes[name]) for name in column)]))
        for column in layout.columns
    ]
    lefts, at = [], _MARGIN
    for index, width in enumerate(widths):
        lefts.append(at)
        crossing = sum(columns[a] <= index < columns[b] for a, b in picture.arrows)
        at += width + min(150.0, 62.0 + 2.5 * crossing)
    right = (lefts[-1] + widths[-1] if widths else _MARGIN) + _MARGIN
    width = max(right, _MARGIN * 2 + 420, _MARGIN * 2 + width_of(picture.summary, 12.5))
    return Sheet(layout, lefts, widths, width, _HEAD + layout.height + _FOOT)


def _box_width(box: Box) -> float:
    title = width_of(cut(box.title, _LONGEST_TITLE, middle=True), _TITLE) * 1.05
    return 46 + max(title, width_of(cut(box.detail, _LONGEST_DETAIL), _DETAIL))


def _definitions(picture: Picture) -> str:
    """Return an arrow head in each colour that arrows have."""
    colours = dict.fromkeys(ink_of(picture.boxes[a].kind).edge for a, _ in picture.arrows)
    heads = "".join(
        f'<marker id="{_head_of(colour)}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 .8 L7.5 4 L0 7.2 Z" fill="{colour}"/></marker>'
        for colour in colours
    )
    return f"<defs>{heads}</defs>"


def _head_of(colour: str) -> str:
    return f"head-{colour.removeprefix('#')}"


def _heading(column: Sequence[str], index: int, picture: Picture, sheet: Sheet) -> str:
    kinds = list(dict.fromkeys(picture.boxes[name].kind for name in column))
    texts, at = [], sheet.lefts[index] + 2
    for kind in kinds:
        count = sum(picture.boxes[name].kind == kind and picture.boxes[name].task is not None for name in column)
        label = f"{kind} {count}" if count else kind
        texts.append(text(at, _HEAD - 12, 11.5, label, colour=ink_of(kind).edge, weight=600))
        at += width_of(label, 11.5) + 16
    return "".join(texts)


def _arrow(route: Sequence[Item], picture: Picture, columns: Mapping[str, int], sheet: Sheet) -> str:
    """Return a line that leaves a box to the right, passes columns level, and enters a box from the left."""
    first, last = str(route[0]), str(route[-1])
    column = columns[first]
    x, y = sheet.lefts[column] + sheet.widths[column], sheet.middle(first)
    path = [f"M{x:.1f} {y:.1f}"]
    for item in route[1:]:
        column += 1
        left, level = sheet.lefts[column] - (0 if isinstance(item, str) else 6), sheet.middle(item)
        bend = (left - x) * 0.5
        path.append(f"C{x + bend:.1f} {y:.1f} {left - bend:.1f} {level:.1f} {left:.1f} {level:.1f}")
        x, y = left, level
        if not isinstance(item, str):
            x += sheet.widths[column] + 12
            path.append(f"H{x:.1f}")
    colour = ink_of(picture.boxes[first].kind).edge
    dashes = "" if picture.boxes[last].task else ' stroke-dasharray="4 4"'
    return (
        f'<path d="{" ".join(path)}" fill="none" stroke="{colour}" stroke-opacity=".5" stroke-width="1.3"{dashes} '
        f'marker-end="url(#{_head_of(colour)})"/>'
    )


def _box(box: Box, column: int, sheet: Sheet) -> str:
    left, width, middle = sheet.lefts[column], sheet.widths[column], sheet.middle(box.name)
    top, ink = middle - _BOX_HEIGHT / 2, ink_of(box.kind)
    fill, dashes = (ink.fill, "") if box.certain else (PAPER, ' stroke-dasharray="5 4"')
    stripe = (
        f'<path d="M{left + 5:.1f} {top:.1f} h-.5 a4.5 4.5 0 0 0 -4.5 4.5 v{_BOX_HEIGHT - 9:.1f} '
        f'a4.5 4.5 0 0 0 4.5 4.5 h.5 Z" fill="{ink.edge}"/>'
        if box.certain
        else ""
    )
    room = width - 46
    return (
        f"<g><title>{escape(box.name)}\n{escape(box.detail)}</title>"
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{_BOX_HEIGHT:.0f}" rx="7" fill="{fill}" '
        f'stroke="{ink.edge}" stroke-width="1.2" stroke-opacity="{".75" if box.certain else ".6"}"{dashes}/>'
        + stripe
        + text(left + 16, middle - 4, _TITLE, fitting(box.title, room / 1.05, _TITLE, middle=True), weight=600)
        + text(left + 16, middle + 13, _DETAIL, fitting(box.detail, room, _DETAIL), colour=QUIET)
        + (_mark(box.state, left + width - 16, top + 15) if box.state else "")
        + "</g>"
    )


def _mark(state: State, x: float, y: float) -> str:
    colour, path = _MARKS.get(state, _MARKS[State.WAITING])
    filled = "#fff" if path.endswith("Z") else "none"
    return (
        f'<g transform="translate({x:.1f} {y:.1f})"><circle r="7" fill="{colour}"/><path d="{path}" fill="{filled}" '
        f'stroke="#fff" stroke-width="1.7" stroke-linecap="round" stroke-linejoin="round"/></g>'
    )


def _legend(picture: Picture, sheet: Sheet) -> str:
    """Return what the marks mean, of those that occur."""
    x, y = _MARGIN, sheet.height - 28
    parts: list[str] = []
    states = {box.state for box in picture.boxes.values()}
    entries: Iterable[tuple[State, str]] = [*_LEGEND, (State.FAILED, "cannot be built")]
    for state, words in entries:
        if state in states:
            parts += [_mark(state, x + 7, y), text(x + 20, y + 4, 11.5, words, colour=QUIET)]
            x += 20 + width_of(words, 11.5) + 22
    if None in states:
        parts.append(
            f'<rect x="{x:.1f}" y="{y - 7:.1f}" width="22" height="14" rx="4" fill="none" stroke="{QUIET}" '
            'stroke-dasharray="4 3"/>'
        )
        parts.append(text(x + 29, y + 4, 11.5, "not known yet", colour=QUIET))
    return "".join(parts)
