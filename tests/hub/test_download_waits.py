"""How long a download waits, for whom, and when it gives up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import faults
import pytest
from downloads import NAME, Remote, noise, remote_of
from hub_world import download_file
from huggingface_hub import constants
from server import Hub

from maxbuild.errors import MaxbuildError, render
from maxbuild.hub import body


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("start", [faults.LARGE, "/acme/"])
def test_a_refusal_that_passes_is_waited_out(hub: Hub, waits: list[float], status: int, start: str) -> None:
    """The hub, and where it keeps the bytes, may stumble: pauses are doubled, and none is the same twice."""
    remote = remote_of(hub, noise(1000))
    remote.fail(*[faults.refused(status)] * 3, start=start)
    assert remote.fetch().place.read_bytes() == remote.content
    assert (1 + 2 + 4) / 2 <= sum(waits) <= 1 + 2 + 4
    assert sum(waits) != pytest.approx(7)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451])
def test_a_refusal_that_does_not_pass_is_told_at_once(hub: Hub, waits: list[float], status: int) -> None:
    """Nobody asks again where the answer would be the same."""
    remote = remote_of(hub, noise(1000))
    remote.fail(*[faults.refused(status)] * 3)
    with pytest.raises(MaxbuildError) as caught:
        remote.fetch()
    assert len(remote.ranges()) == 1
    assert waits == []
    assert f"{remote.hub.large_address} answered {status}" in render(caught.value)
    assert caught.value.hint


def _in(seconds: float) -> str:
    """Return the date so many seconds from now: of when a test runs, not of when it was collected."""
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({"Retry-After": "7"}, 7, 7),
        ({"Retry-After": "0"}, 0, 0),
        ({"Retry-After": 100}, 60, 100),
        ({"Retry-After": -100}, 0, 0),
        ({"Retry-After": "soon"}, 0.5, 1),
        ({"RateLimit": '"resolvers";r=0;t=11'}, 11, 11),
        ({"RateLimit": '"resolvers";r=5;t=200'}, 0.5, 1),
    ],
)
def test_a_server_is_left_alone_as_long_as_it_asks(
    hub: Hub, waits: list[float], headers: dict[str, str | int], least: float, most: float
) -> None:
    """Retry-After, in seconds or as a date (given here as a number), and the limit that the hub tells, are honoured."""
    remote = remote_of(hub, noise(1000))
    said = {name: _in(value) if isinstance(value, int) else value for name, value in headers.items()}
    remote.fail(faults.refused(429, said))
    assert remote.fetch().place.read_bytes() == remote.content
    assert least - 1e-6 <= sum(waits) <= most + 1e-6


def test_nobody_waits_for_hours(hub: Hub, waits: list[float]) -> None:
    """A server that asks for more than there is patience for is told about, at once."""
    remote = remote_of(hub, noise(1000))
    remote.fail(faults.refused(429, {"Retry-After": "86400"}))
    with pytest.raises(MaxbuildError, match="asked too often") as caught:
        remote.fetch()
    assert "it asks to be left alone for 86400 s" in render(caught.value)
    assert waits == []


def test_a_wait_ends_when_the_build_does(hub: Hub, tmp_path: Path) -> None:
    """Whoever waits asks meanwhile whether it is still wanted."""

    class EndedError(Exception):
        pass

    remote = remote_of(hub, noise(1000))
    remote.fail(faults.refused(503, {"Retry-After": "200"}))
    asked = 0

    def alive(_: int, __: int | None) -> None:
        nonlocal asked
        asked += 1
        if asked == 5:
            raise EndedError

    with pytest.raises(EndedError):
        download_file(remote.repository, NAME, tmp_path, alive)


def test_a_silent_server_is_left(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing comes for as long as HF_HUB_DOWNLOAD_TIMEOUT says, the rest is asked for anew."""
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    half = len(remote.content) // 2
    remote.fail(faults.stalled(remote.content, half, 0.6))
    assert remote.fetch().place.read_bytes() == remote.content
    assert remote.ranges() == [None, f"bytes={half}-"]


def test_a_server_that_stays_silent_is_told(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the setting that says how long that is."""
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.05)
    remote = remote_of(hub, noise(1000))
    remote.fail(*[faults.stalled(remote.content, 0, 0.3)] * 20)
    with pytest.raises(MaxbuildError) as caught:
        remote.fetch()
    assert "HF_HUB_DOWNLOAD_TIMEOUT" in render(caught.value)


def test_a_server_that_drips_is_left(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then keeps no connection alive for ever."""
    monkeypatch.setattr(body, "WINDOW", 0.1)
    remote = remote_of(hub, noise(1000))
    remote.fail(faults.dripped(remote.content, 100, 0.02))
    assert remote.fetch().place.read_bytes() == remote.content
    assert 0 < int((remote.ranges()[1] or "").removeprefix("bytes=").removesuffix("-")) < 100
