"""How often, and after how long, a download is tried again; counted anew whenever bytes have come."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpx2
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils._http import parse_ratelimit_headers

MOST_TRIES: Final = 6
"""Tries in a row that bring nothing, before one gives up."""
LONGEST_WAIT: Final = 300.0
"""Seconds: who is asked to come back later than that is told so, and not kept waiting."""

TRANSIENT: Final = (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError)
TRANSIENT_STATUS: Final = frozenset({408, 425, 429, 500, 502, 503, 504})

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0
_GLANCE = 0.2


def sleep(seconds: float) -> None:
    """Wait; a test may have it not wait."""
    time.sleep(seconds)


@dataclass(slots=True)
class Patience:
    """The patience with one file. `alive` is called while it waits, and may raise to end the wait."""

    alive: Callable[[], None]
    failures: int = 0
    in_row: int = 0
    waited: float = 0.0
    """Seconds, in all."""

    def bear(self, error: Exception, *, came: bool) -> None:
        """Wait for the next try after `error`, or raise it where another would not help.

        came: whether bytes came before it happened.
        """
        self.failures += 1
        self.in_row = 1 if came else self.in_row + 1
        asked = _asked_for(error)
        if not is_transient(error) or self.in_row >= MOST_TRIES or (asked or 0) > LONGEST_WAIT:
            raise error
        self._wait(_pause(self.in_row) if asked is None else asked)

    def _wait(self, seconds: float) -> None:
        self.waited += seconds
        while seconds > 0:
            self.alive()
            sleep(min(seconds, _GLANCE))
            seconds -= _GLANCE


def is_transient(error: Exception) -> bool:
    """Return whether the same request may well be answered in a while."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in TRANSIENT_STATUS
    return isinstance(error, TRANSIENT)


def wait_asked_for(headers: Mapping[str, str]) -> float | None:
    """Return how many seconds a server asks to be left alone; None where it does not say, or not in a way of HTTP's."""
    if (limit := parse_ratelimit_headers(headers)) is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    text = headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def _asked_for(error: Exception) -> float | None:
    return wait_asked_for(error.response.headers) if isinstance(error, HfHubHTTPError) else None


def _pause(failures: int) -> float:
    """Return the seconds of a pause: doubled each time, and half of it by chance, so that clients do not come at once.

    That is "equal jitter" of M. Brooker, Exponential Backoff And Jitter (AWS Architecture Blog, 2015).
    """
    longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (failures - 1))
    return random.uniform(longest / 2, longest)  # noqa: S311 - no secret
