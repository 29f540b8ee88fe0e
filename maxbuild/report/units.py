"""Numbers as people read them: three figures at most, the unit behind a space."""

from __future__ import annotations

_BYTE_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_SHORT_DIGEST = 12


def duration(seconds: float) -> str:
    """Return a time span, `0.12 s`, `12.3 s`, `3 min 05 s` or `1 h 02 min`."""
    if seconds < 9.995:
        return f"{max(seconds, 0.0):.2f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def ago(seconds: float) -> str:
    """Return how long ago something was, `just now`, `5 min ago`, `3 h ago` or `12 days ago`."""
    if seconds < 60:
        return "just now"
    for length, unit in ((86400, "day"), (3600, "h"), (60, "min")):
        if seconds >= length:
            count = int(seconds // length)
            return f"{plural(count, unit) if unit == 'day' else f'{count} {unit}'} ago"
    raise AssertionError("more than a minute")


def size(count: int) -> str:
    """Return a number of bytes in decimal units, `512 B` or `1.8 MB`, as package indexes and hubs count them."""
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(_BYTE_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    digits = 1 if unit and value < 99.95 else 0
    return f"{value:.{digits}f} {_BYTE_UNITS[unit]}"


def plural(count: int, noun: str) -> str:
    """Return `1 task` or `2 tasks`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def short(text: str) -> str:
    """Return the beginning of a digest, enough to tell two apart; any other text as it is."""
    is_digest = len(text) == 64 and all(character in "0123456789abcdef" for character in text)
    return text[:_SHORT_DIGEST] if is_digest else text
