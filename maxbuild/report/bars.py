"""Grouped bars as SVG: a row per thing, a panel per measure, a bar per series; the same chart gives the same bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from maxbuild.report.lettering import FONT, PAPER, QUIET, TEXT, fitting, text, width_of

_MARGIN = 36.0
_HEAD = 132.0
_NAMES = 250.0
_PANEL, _PANEL_GAP = 230.0, 34.0
_FIGURES = 92.0
"""Room for a figure behind the longest bar of a panel."""
_BAR, _BAR_GAP = 9.0, 3.0
_ROW_GAP = 16.0
_ALARM = "#cf3a35"
_NOTHING = "#b6bdc6"


@dataclass(frozen=True, slots=True)
class Series:
    """One of the things compared, in every row: its name, what it is, and its colour."""

    label: str
    detail: str
    colour: str


@dataclass(frozen=True, slots=True)
class Bar:
    """One value and how it is written; None where there is none. `alarm` says what is wrong with it."""

    value: float | None
    figure: str
    alarm: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One thing: its name, where it belongs, and for each panel the bar of each series."""

    name: str
    place: str
    bars: Sequence[Sequence[Bar]]


@dataclass(frozen=True, slots=True)
class Chart:
    """The whole: `panels` are the titles of the measures."""

    title: str
    summary: str
    series: Sequence[Series]
    panels: Sequence[str]
    rows: Sequence[Row]


def bars_svg(chart: Chart) -> str:
    """Return the text of the SVG file."""
    step = len(chart.series) * (_BAR + _BAR_GAP) + _ROW_GAP
    width = _MARGIN * 2 + _NAMES + len(chart.panels) * (_PANEL + _PANEL_GAP) - _PANEL_GAP
    width = max(width, _MARGIN * 2 + width_of(chart.summary, 12.5))
    height = _HEAD + len(chart.rows) * step + _MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="{FONT}" role="img">',
        f"<title>{escape(chart.title)}: {escape(chart.summary)}</title>",
        f'<rect width="100%" height="100%" fill="{PAPER}"/>',
        text(_MARGIN, 44, 21, chart.title, weight=650),
        text(_MARGIN, 66, 12.5, chart.summary, colour=QUIET),
        _legend(chart.series),
        *(text(_left(index), _HEAD - 12, 11.5, title, weight=600) for index, title in enumerate(chart.panels)),
    ]
    scales = [_scale(chart, index) for index in range(len(chart.panels))]
    for index, row in enumerate(chart.rows):
        top = _HEAD + index * step
        if index % 2 == 0:
            parts.append(
                f'<rect x="0" y="{top:.1f}" width="100%" height="{step:.1f}" fill="{TEXT}" fill-opacity=".025"/>'
            )
        parts += _row(row, top + _ROW_GAP / 2, chart.series, scales)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _left(panel: int) -> float:
    return _MARGIN + _NAMES + panel * (_PANEL + _PANEL_GAP)


def _scale(chart: Chart, panel: int) -> float:
    """Return how many pixels a panel gives to one of its unit."""
    values = [bar.value for row in chart.rows for bar in row.bars[panel] if bar.value is not None]
    return (_PANEL - _FIGURES) / max([1e-9, *values])


def _legend(series: Sequence[Series]) -> str:
    parts, x = [], _MARGIN
    for one in series:
        parts.append(f'<rect x="{x:.1f}" y="81" width="11" height="11" rx="2.5" fill="{one.colour}"/>')
        parts.append(text(x + 17, 91, 12, one.label, weight=600))
        x += 17 + width_of(one.label, 12) * 1.05 + 6
        parts.append(text(x, 91, 12, one.detail, colour=QUIET))
        x += width_of(one.detail, 12) + 20
    return "".join(parts)


def _row(row: Row, top: float, series: Sequence[Series], scales: Sequence[float]) -> Iterator[str]:
    middle = top + len(series) * (_BAR + _BAR_GAP) / 2
    room = _NAMES - 16
    yield f"<g><title>{escape(f'{row.place} {row.name}'.strip())}</title>"
    yield text(
        _MARGIN,
        middle - 3 if row.place else middle + 3,
        12,
        fitting(row.name, room / 1.05, 12, middle=True),
        weight=600,
    )
    yield text(_MARGIN, middle + 12, 10.5, fitting(row.place, room, 10.5, middle=True), colour=QUIET)
    for panel, bars in enumerate(row.bars):
        for place, (one, bar) in enumerate(zip(series, bars, strict=True)):
            yield _bar(bar, one, _left(panel), top + place * (_BAR + _BAR_GAP), scales[panel])
    yield "</g>"


def _bar(bar: Bar, series: Series, x: float, y: float, scale: float) -> str:
    if bar.value is None:
        return text(x, y + _BAR - 0.5, 10, bar.figure, colour=_NOTHING)
    width = bar.value * scale
    edge = f' stroke="{_ALARM}" stroke-width="1.4"' if bar.alarm else ""
    about = f"{series.label}: {bar.figure}{f', {bar.alarm}' if bar.alarm else ''}"
    return (
        f"<g><title>{escape(about)}</title>"
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{_BAR:g}" rx="2" fill="{series.colour}"{edge}/>'
        + text(x + width + 5, y + _BAR - 0.5, 10, _annotated(bar), colour=_ALARM if bar.alarm else QUIET)
        + "</g>"
    )


def _annotated(bar: Bar) -> str:
    return f"{bar.figure}  {bar.alarm}" if bar.alarm else bar.figure
