"""Text in pictures: one font, three colours, and widths that are known without asking a font."""

from __future__ import annotations

from html import escape

from maxbuild.report.table import cut

FONT = "Inter, 'Segoe UI', 'Helvetica Neue', Helvetica, Arial, 'DejaVu Sans', sans-serif"
PAPER, TEXT, QUIET = "#fcfcfd", "#1d2530", "#66707d"


def width_of(text: str, font_size: float) -> float:
    """Return about how wide `text` is in a common sans-serif, on the generous side: no font is asked."""
    return font_size * sum(
        0.32 if c in "iljtfI.,:;'|!()[]/ ·" else 0.88 if c in "mwMW@%→×…" else 0.68 if c.isupper() else 0.565
        for c in text
    )


def fitting(text: str, room: float, font_size: float, *, middle: bool = False) -> str:
    """Return `text`, cut until it is no wider than `room`."""
    length = len(text)
    while length > 4 and width_of(cut(text, length, middle=middle), font_size) > room + 0.5:
        length -= 1
    return cut(text, length, middle=middle)


def text(x: float, y: float, font_size: float, content: str, *, colour: str = TEXT, weight: int = 400) -> str:
    """Return one line of text that begins at (x, y), its baseline."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{font_size:g}" font-weight="{weight}" fill="{colour}">'
        f"{escape(content)}</text>"
    )
