"""Errors on a terminal: the text of `render`, its labels coloured where colour is wanted."""

from __future__ import annotations

from maxbuild.errors import MaxbuildError, render
from maxbuild.report.terminal import Style, Terminal

_LABELS = (("error:", Style.BOLD_RED), ("hint:", Style.CYAN), ("  Caused by:", Style.BOLD))


def error_text(error: MaxbuildError, terminal: Terminal) -> str:
    """Return `error` in full."""
    return "\n".join(_labelled(line, terminal) for line in render(error).split("\n"))


def _labelled(line: str, terminal: Terminal) -> str:
    for label, style in _LABELS:
        if line.startswith(label):
            return terminal.paint(label, style) + line[len(label) :]
    return line
