"""The words for what the engine reports: states, reasons, what is not known yet; the same in every display."""

from __future__ import annotations

from maxbuild.engine import Deferred, Explanation, Reason, State, TaskReport
from maxbuild.errors import printable
from maxbuild.report.terminal import Style
from maxbuild.report.units import short

_LONGEST_VALUE = 60

WORDS: dict[State, tuple[str, Style]] = {
    State.CACHED: ("cached", Style.DIM),
    State.FETCHED: ("fetched", Style.GREEN),
    State.BUILT: ("built", Style.GREEN),
    State.FAILED: ("failed", Style.RED),
    State.SKIPPED: ("skipped", Style.YELLOW),
    State.WOULD_RUN: ("would build", Style.YELLOW),
    State.WAITING: ("waiting", Style.DIM),
    State.INTERRUPTED: ("interrupted", Style.YELLOW),
}

# What is said of the same states once a build has come to its end.
_AFTERWARDS = {State.WOULD_RUN: "not started", State.WAITING: "not started"}


def state_word(state: State, *, afterwards: bool = False) -> str:
    """Return the word for `state`; `afterwards` is for a build that stopped before it came to all tasks."""
    return _AFTERWARDS.get(state, WORDS[state][0]) if afterwards else WORDS[state][0]


def one_line(text: str) -> str:
    """Return `text` as one line without control characters, so that it can neither break nor steer a display."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def value(text: str | None, *, longest: int = _LONGEST_VALUE) -> str:
    """Return one side of a change: a digest by its beginning, a value cut to `longest`, nothing as `nothing`."""
    if text is None:
        return "nothing"
    line = one_line(short(text))
    return line if len(line) <= longest else line[: longest - 1] + "…"


def change(explanation: Explanation, *, longest: int = _LONGEST_VALUE) -> str:
    """Return what is different, `512 → 1024`; empty where the reason says it all."""
    match explanation.reason:
        case Reason.PARAM | Reason.TOOLCHAIN | Reason.INPUT:
            old, new = value(explanation.old, longest=longest), value(explanation.new, longest=longest)
            return f"{old} → {new}"
        case Reason.EVICTED | Reason.CORRUPT:
            return value(explanation.old, longest=longest) if explanation.old else ""
        case _:
            return ""


def reason(explanation: Explanation) -> str:
    """Return one reason on one line, `param max_length: 512 → 1024`."""
    if explanation.reason in (Reason.NEW, Reason.FORCED):
        return str(explanation.reason)
    told = change(explanation)
    return f"{explanation.reason} {one_line(explanation.what)}" + (f": {told}" if told else "")


def reasons(report: TaskReport) -> str:
    """Return the first reason of a task, and how many more there are."""
    if not report.explanations:
        return ""
    more = len(report.explanations) - 1
    return reason(report.explanations[0]) + (f" (+{more} more)" if more else "")


def deferred(part: Deferred) -> str:
    """Return what is not known yet, `after trace main: compile × regions`."""
    return one_line(f"after {part.after}: {part.what}")
