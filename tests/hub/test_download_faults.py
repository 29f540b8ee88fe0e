"""Downloads over a network that fails: in the end the bytes are right, or there is an error; never half a file."""

from __future__ import annotations

from pathlib import Path

import faults
import pytest
from downloads import NAME, Remote, is_untouched, noise, partials, remote_of
from hub_world import REPOSITORY, TOKEN
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from server import Fault, Hub, sha256

from maxbuild.errors import MaxbuildError, StoreError, TaskFailed, UsageError, render
from maxbuild.hub import Wanted, fetch_file, patience
from maxbuild.lock import LockedFile


@pytest.mark.parametrize("tenth", range(10))
def test_a_connection_cut_at_any_tenth_is_taken_up_there(remote: Remote, tenth: int) -> None:
    """The rest alone is asked for, and the file is right."""
    at = len(remote.content) * tenth // 10
    remote.fail(faults.cut(remote.content, at))
    assert remote.fetch().place.read_bytes() == remote.content
    assert remote.ranges() == [None, f"bytes={at}-" if at else None]


def test_a_connection_cut_at_every_tenth_brings_the_file(remote: Remote, waits: list[float]) -> None:
    """Tries that bring something are not counted: ten cuts are more than the tries in a row."""
    size = len(remote.content)
    remote.fail(*(faults.cut(remote.content, size * tenth // 10) for tenth in range(1, 11)))
    assert remote.fetch().place.read_bytes() == remote.content
    assert len(remote.ranges()) == 10
    assert sum(waits) < 10


def test_an_answer_that_ends_without_a_length_is_no_file(remote: Remote) -> None:
    """Where no length is said, the end of the answer is not taken for the end of the file."""
    half = len(remote.content) // 2
    remote.fail(faults.without_length(remote.content, half))
    assert remote.fetch().place.read_bytes() == remote.content
    assert remote.ranges() == [None, f"bytes={half}-"]


def test_a_range_that_is_ignored_is_not_appended(remote: Remote) -> None:
    """A server that answers 200 to a range sends all: what was there goes, and the file is right."""
    half = len(remote.content) // 2
    remote.fail(faults.cut(remote.content, half), faults.from_the_start(remote.content))
    assert remote.fetch().place.read_bytes() == remote.content
    assert remote.ranges() == [None, f"bytes={half}-"]


def test_a_server_that_starts_over_for_ever_is_given_up(remote: Remote, waits: list[float]) -> None:
    """What came before and comes again is no progress: tries are counted."""
    half = len(remote.content) // 2
    remote.fail(*([faults.from_the_start(remote.content, half), faults.from_the_start(remote.content, half - 1)] * 20))
    with pytest.raises(MaxbuildError, match="could not reach"):
        remote.fetch()
    assert len(remote.ranges()) == patience.MOST_TRIES


@pytest.mark.parametrize("start", [0, 1, 100_001])
def test_another_range_than_asked_for_is_not_appended(remote: Remote, start: int) -> None:
    """A 206 of other bytes is refused, and the file is fetched anew."""
    half = len(remote.content) // 2
    remote.fail(faults.cut(remote.content, half), faults.another_range(remote.content, start))
    assert remote.fetch().place.read_bytes() == remote.content
    assert remote.ranges() == [None, f"bytes={half}-", None]


def test_a_file_that_changed_between_tries_is_not_patched_together(remote: Remote) -> None:
    """Another ETag on the second try: nothing of the first version stays, and no digest has to say that it did.

    Else the wrong bytes that come then would be the second wrong ones, and the last.
    """
    half = len(remote.content) // 2
    other = noise(len(remote.content), seed=1)
    remote.fail(
        faults.another_version(other, "old", half),
        faults.another_version(remote.content, "new"),
        faults.another_version(other, "old"),
    )
    assert remote.fetch().place.read_bytes() == remote.content
    assert remote.ranges() == [None, f"bytes={half}-", None, None]


def test_a_partial_file_of_something_else_is_thrown_away(remote: Remote, cache: Path) -> None:
    """The rest of the file behind the beginning of another has the wrong digest; the file is fetched from the start."""
    place = cache / "models--acme--tiny-gemma3" / "blobs" / f"{sha256(remote.content)}.maxbuild.incomplete"
    place.parent.mkdir(parents=True)
    place.write_bytes(noise(len(remote.content) // 2, seed=2))
    assert remote.fetch().place.read_bytes() == remote.content
    assert remote.ranges() == [f"bytes={len(remote.content) // 2}-", None]
    assert not partials(cache)


@pytest.mark.parametrize("surplus", [0, 1, 1000])
def test_a_partial_file_that_is_whole_or_more_needs_no_bytes(remote: Remote, cache: Path, surplus: int) -> None:
    """One that was whole when its process died is asked nothing about; one that is too long is fetched anew."""
    place = cache / "models--acme--tiny-gemma3" / "blobs" / f"{sha256(remote.content)}.maxbuild.incomplete"
    place.parent.mkdir(parents=True)
    place.write_bytes(remote.content + bytes(surplus))
    assert remote.fetch().place.read_bytes() == remote.content
    assert remote.ranges() == ([None] if surplus else [])


def test_what_has_come_stays_for_the_next_run(remote: Remote, cache: Path, waits: list[float]) -> None:
    """Where tries are at their end, the partial file is kept, the message says so, and the next run goes on."""
    half = len(remote.content) // 2
    remote.fail(faults.cut(remote.content, half), *[faults.refused(503)] * patience.MOST_TRIES)
    with pytest.raises(MaxbuildError) as caught:
        remote.fetch()
    assert f"{half} of {len(remote.content)} bytes are here and stay" in render(caught.value)
    assert f"tried {patience.MOST_TRIES} times" in render(caught.value)
    assert [path.stat().st_size for path in partials(cache)] == [half]
    assert is_untouched(cache)
    remote.hub.faults.clear()
    remote.hub.requests.clear()
    assert remote.fetch().place.read_bytes() == remote.content
    assert remote.ranges() == [f"bytes={half}-"]
    assert not partials(cache)


@pytest.mark.parametrize("difference", [-1, 1, -1000, 1000])
def test_a_wrong_length_is_no_file(remote: Remote, cache: Path, difference: int) -> None:
    """A server that has more or fewer bytes than expected is asked once more, then told; nothing of it stays."""
    length = len(remote.content) + difference
    content = remote.content + bytes(max(0, difference))
    remote.fail(*[faults.wrong_length(content, length)] * 2)
    with pytest.raises(TaskFailed, match="not what the lock expects") as caught:
        remote.fetch()
    assert f"has {length} bytes, expected {len(remote.content)}" in render(caught.value)
    assert len(remote.ranges()) == 2
    assert is_untouched(cache)
    assert not partials(cache)
    remote.fail(faults.wrong_length(content, length))
    assert remote.fetch().place.read_bytes() == remote.content


def test_too_many_bytes_without_a_length_are_no_file(remote: Remote, cache: Path) -> None:
    """Where no length is said, what comes is counted."""
    remote.fail(*[faults.without_length(remote.content + b"!", len(remote.content) + 1)] * 2)
    with pytest.raises(TaskFailed, match="not what the lock expects") as caught:
        remote.fetch()
    assert f"more than the expected {len(remote.content)} bytes came" in render(caught.value)
    assert is_untouched(cache)


@pytest.mark.parametrize("start", [faults.LARGE, "/acme/"])
def test_a_login_page_is_no_file(hub: Hub, cache: Path, start: str) -> None:
    """A network that answers with its own page, in place of the hub or of where the bytes lie, is told as such."""
    remote = remote_of(hub, noise(1000))
    remote.fail(*[faults.page()] * 2, start=start)
    with pytest.raises(MaxbuildError) as caught:
        remote.fetch()
    assert "a web page" in render(caught.value)
    assert is_untouched(cache)


def test_a_redirect_to_a_login_page_is_no_file(hub: Hub, cache: Path) -> None:
    """A portal may redirect to itself: whoever says nothing of a commit is no hub."""
    remote = remote_of(hub, noise(1000))
    hub.plain["/login"] = b"<html>Please log in</html>"
    remote.fail(faults.sent_on(f"{hub.large_address}/login"), start="/acme/")
    with pytest.raises(MaxbuildError, match="is not a hub"):
        remote.fetch()
    assert is_untouched(cache)


def test_a_place_of_bytes_that_is_gone_is_named(hub: Hub, waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """A redirect to a host that does not answer is tried again, and that host is named, not the hub."""
    remote = remote_of(hub, noise(1000))
    gone = "http://127.0.0.1:9"
    monkeypatch.setattr(hub, "large_address", gone)
    with pytest.raises(MaxbuildError, match="could not reach the hub") as caught:
        remote.fetch()
    assert f"{gone}: " in render(caught.value)
    assert "Signature" not in render(caught.value)
    assert f"tried {patience.MOST_TRIES} times" in render(caught.value)


def test_redirects_in_a_circle_end(hub: Hub) -> None:
    """Nobody follows for ever."""
    remote = remote_of(hub, noise(1000))
    circle = [("/circle", faults.sent_on("/circle"))] * 100
    hub.faults = [("/acme/", faults.sent_on("/circle")), *circle]
    with pytest.raises(MaxbuildError, match="could not reach") as caught:
        remote.fetch()
    assert "redirects" in render(caught.value)


def test_a_token_is_in_no_message_however_it_comes_back(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that repeats what it was sent, in words, addresses and names, does not get it shown."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    remote = remote_of(hub, noise(1000))
    for fault in (
        faults.refused(403, {"X-Error-Message": f"Bearer {TOKEN} may not"}),
        faults.sent_on(f"http://{TOKEN}@127.0.0.1:9/{TOKEN}?token={TOKEN}"),
        faults.refused(400, {}, f"bad {TOKEN}".encode()),
    ):
        remote.fail(*[fault] * 10, start="/acme/")
        with pytest.raises(MaxbuildError) as caught:
            remote.fetch()
        assert TOKEN not in render(caught.value)


def test_a_gated_repository_says_what_to_do(hub: Hub) -> None:
    """The message names the page where access is asked for."""
    remote = remote_of(hub, noise(1000))
    remote.fail(faults.refused(403, {"X-Error-Code": "GatedRepo"}), start="/acme/")
    with pytest.raises(MaxbuildError, match="it is gated") as caught:
        remote.fetch()
    assert f"{hub.address}/{REPOSITORY}" in (caught.value.hint or "")


_LENGTH = 3000
_CONTENT, _OTHER = noise(_LENGTH, seed=3), noise(_LENGTH, seed=4)
_FAULTS = st.one_of(
    st.integers(0, _LENGTH).map(lambda at: faults.cut(_CONTENT, at)),
    st.integers(0, _LENGTH).map(lambda at: faults.cut(_OTHER, at)),
    st.integers(0, _LENGTH).map(lambda at: faults.without_length(_CONTENT, at)),
    st.integers(0, _LENGTH).map(lambda at: faults.from_the_start(_CONTENT, at)),
    st.integers(1, _LENGTH - 1).map(lambda start: faults.another_range(_CONTENT, start)),
    st.integers(0, 2 * _LENGTH).map(lambda length: faults.wrong_length(_CONTENT * 2, length)),
    st.sampled_from([408, 416, 429, 500, 503]).map(faults.refused),
    st.sampled_from(["old", "new"]).map(lambda etag: faults.another_version(_CONTENT, etag)),
    st.just(faults.another_version(_OTHER, "new")),
    st.just(faults.page()),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_FAULTS, max_size=12))
def test_whatever_goes_wrong_the_bytes_are_right_or_there_is_an_error(
    hub: Hub, cache: Path, wrong: list[Fault]
) -> None:
    """Any faults in any order: a file under its name is right, else there is an error of ours and no file.

    Once nothing goes wrong any more, the next run brings the file, whatever was left.
    """
    file = LockedFile(NAME, _LENGTH, sha256(_CONTENT), None)
    commit = hub.push(REPOSITORY, {NAME: _CONTENT})
    wanted = Wanted(REPOSITORY, commit, NAME)
    hub.faults = [(faults.LARGE, fault) for fault in wrong]
    trouble: MaxbuildError | None = None
    try:
        assert fetch_file(wanted, file, lambda _: None, again=True).place.read_bytes() == _CONTENT
    except MaxbuildError as error:
        trouble = error
    assert not isinstance(trouble, StoreError | UsageError)
    assert trouble is None or trouble.hint
    for place in cache.rglob(NAME):
        assert place.read_bytes() == _CONTENT
    hub.faults.clear()
    assert fetch_file(wanted, file, lambda _: None).place.read_bytes() == _CONTENT
    for place in [*cache.rglob(NAME), *partials(cache)]:
        place.unlink()
    for blob in cache.glob("*/blobs/*"):
        blob.unlink()
