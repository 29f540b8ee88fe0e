"""The outcome of one check, and that what could not be checked is never taken for right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What came of a check."""

    PASSED = "passed"
    FAILED = "failed"
    UNCHECKED = "unchecked"


@dataclass(frozen=True, slots=True)
class Check:
    """One check: what was looked at, of what, and what came of it. `detail` says why, for all but what passed."""

    name: str
    subject: str
    outcome: Outcome
    detail: str = ""


def passed(name: str, subject: str, detail: str = "") -> Check:
    """Return a check that passed."""
    return Check(name, subject, Outcome.PASSED, detail)


def failed(name: str, subject: str, detail: str) -> Check:
    """Return a check that failed."""
    return Check(name, subject, Outcome.FAILED, detail)


def unchecked(name: str, subject: str, detail: str) -> Check:
    """Return a check that this host cannot do, or not in full."""
    return Check(name, subject, Outcome.UNCHECKED, detail)


def judged(name: str, subject: str, problem: str | None) -> Check:
    """Return a check that failed if there is a problem."""
    return passed(name, subject) if problem is None else failed(name, subject, problem)


def listed(names: Sequence[str], longest: int = 6) -> str:
    """Return `a, b, c and 4 more`."""
    more = len(names) - longest
    return ", ".join(names[:longest]) + (f" and {more} more" if more > 0 else "")
