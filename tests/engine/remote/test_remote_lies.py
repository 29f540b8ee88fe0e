"""A remote that lies, breaks off, drips or refuses costs one warning; the build has a miss and asks no more."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from remote import servers
from remote.samples import CONTENT, DEAF, DIGEST, HASTY, KEY, PATIENT, RESULT, Opener, hearing
from remote.servers import Lie, Server

from maxbuild.engine import TaskKey, hash_bytes
from maxbuild.engine.remote import Limits, RemoteResult
from maxbuild.engine.remote.action import encode

AC, CAS = f"/main/ac/{KEY}", f"/main/cas/{DIGEST}"
REDIRECT = " (a redirect; none is followed)"

# What the server does, the words about it for an action result and for a blob, and how often it is asked.
LIES: dict[str, tuple[Lie, str, str, int]] = {
    "wrong bytes": (
        servers.wrong_bytes,
        "sent something else than an action result: not JSON",
        "sent bytes that are not those of the digest",
        1,
    ),
    "short": (
        servers.short,
        "sent something else than an action result: not JSON",
        "sent 1599 of the 1600 bytes that were announced",
        1,
    ),
    "html": (
        servers.html,
        "sent something else than an action result: not JSON",
        "sent 90 of the 1600 bytes that were announced",
        1,
    ),
    "endless": (
        servers.endless,
        "sent more than an action result can hold",
        "sent more than the 1600 bytes that were announced",
        1,
    ),
    "compressed": (servers.compressed, *["sent it in an encoding that was not asked for"] * 2, 1),
    "broken off": (servers.broken_off, *["broke off"] * 2, 2),
    "reset": (servers.reset, *["broke off"] * 2, 2),
    "not http": (servers.not_http, *["broke off"] * 2, 2),
    "dripping": (servers.dripping, *["moved less than 1000 bytes a second"] * 2, 1),
    "dripping head": (servers.dripping_head, *["moved less than 1000 bytes a second"] * 2, 1),
    "silent": (servers.silent, *["sent nothing for 1 s"] * 2, 1),
    "500": (servers.status(500), *["answered 500"] * 2, 2),
    "503": (servers.status(503), *["answered 503"] * 2, 2),
    "204": (servers.status(204), *["answered 204"] * 2, 1),
    "206": (servers.status(206), *["answered 206"] * 2, 1),
    "401": (
        servers.status(401, {"WWW-Authenticate": "Basic"}),
        *["answered 401 (it wants a credential that it knows: see MAXBUILD_REMOTE_TOKEN)"] * 2,
        1,
    ),
    "403": (servers.status(403), *["answered 403 (the credential has no right to this)"] * 2, 1),
}

LIMITS = {"silent": DEAF, "dripping": HASTY, "dripping head": HASTY}


@pytest.fixture
def full(server: Server) -> Server:
    """Return a server that holds one result and its blob."""
    server.content = {AC: encode(RESULT), CAS: CONTENT}
    return server


@pytest.mark.parametrize("name", LIES)
def test_an_action_result_that_is_none_is_a_miss_and_one_warning(name: str, full: Server, opened: Opener) -> None:
    """Whatever comes in place of an action result, nothing is found, one warning says why, and no more is asked."""
    full.lie, words, _, requests = LIES[name]
    remote = opened(full.url, limits=LIMITS.get(name, PATIENT))
    with hearing() as heard:
        assert remote.find(KEY) is None
        assert remote.find(TaskKey("b" * 64)) is None
    told = f"the remote cache at {full.url}/main {words} (asked for ac/{KEY})"
    assert heard.texts == [f"{told}; the build goes on without it"]
    assert full.requests == [f"GET {AC}"] * requests
    assert remote.statistics().trouble == told
    assert (remote.statistics().hits, remote.statistics().misses) == (0, 0)


@pytest.mark.parametrize("name", LIES)
def test_a_blob_that_is_none_is_a_miss_and_one_warning(name: str, full: Server, tmp_path: Path, opened: Opener) -> None:
    """Whatever comes in place of a blob, no file is left, one warning says why, and no more is asked."""
    full.lie, _, words, requests = LIES[name]
    remote = opened(full.url, write=True, limits=LIMITS.get(name, PATIENT))
    with hearing() as heard:
        assert not remote.fetch(DIGEST, len(CONTENT), tmp_path / "blob")
        assert not remote.fetch(DIGEST, len(CONTENT), tmp_path / "blob")
        assert remote.find(KEY) is None
        assert not remote.has(DIGEST)
        assert not remote.publish(KEY, RESULT, {})
    assert heard.texts == [
        f"the remote cache at {full.url}/main {words} (asked for cas/{DIGEST}); the build goes on without it"
    ]
    assert full.requests == [f"GET {CAS}"] * requests
    assert list(tmp_path.iterdir()) == []
    assert remote.statistics().fetched_bytes == 0
    assert not remote.writable


def test_bytes_of_another_size_are_refused_though_they_are_those_of_the_digest(
    full: Server, tmp_path: Path, opened: Opener
) -> None:
    """A size in an action result that its blob does not have is a lie, whichever of the two is meant."""
    for size in (len(CONTENT) - 1, len(CONTENT) + 1):
        with hearing() as heard:
            assert not opened(full.url).fetch(DIGEST, size, tmp_path / "blob")
        assert len(heard.texts) == 1
    assert list(tmp_path.iterdir()) == []


def test_an_endless_body_is_cut_where_it_is_too_long(full: Server, tmp_path: Path, opened: Opener) -> None:
    """Of a body without end no more is read than was announced, give or take what was under way."""
    sent = []

    def endless(handler: servers._Handler, body: bytes) -> None:
        handler.head(200, {"Connection": "close"})
        handler.close_connection = True
        sent.extend(handler.wfile.write(b"\0" * (1 << 20)) for _ in range(1024))

    full.lie = endless
    with hearing():
        assert not opened(full.url).fetch(DIGEST, len(CONTENT), tmp_path / "blob")
    assert len(sent) < 64


@pytest.mark.parametrize("first", [servers.status(503), servers.status(500), servers.reset, servers.broken_off])
def test_one_hiccup_is_forgiven(first: Lie, full: Server, tmp_path: Path, opened: Opener) -> None:
    """A failure of the server, or a connection that broke, is tried a second time, and nothing is said about it."""
    full.lie = servers.once(first)
    remote = opened(full.url)
    assert remote.fetch(DIGEST, len(CONTENT), tmp_path / "blob")
    assert (tmp_path / "blob").read_bytes() == CONTENT
    assert full.requests == [f"GET {CAS}"] * 2
    full.lie = servers.once(first)
    assert remote.find(KEY) == RESULT


def test_a_redirect_is_not_followed_and_no_credential_leaves(full: Server, opened: Opener) -> None:
    """A redirect is a refusal: the other server is never asked, so it never sees the credential."""
    with servers.serving(Server()) as other:
        other.content = full.content
        for number in (301, 302, 303, 307, 308):
            full.lie = servers.status(number, {"Location": f"{other.url}{AC}"})
            with hearing() as heard:
                assert opened(full.url).find(KEY) is None
            assert heard.texts == [
                f"the remote cache at {full.url}/main answered {number}{REDIRECT} (asked for ac/{KEY});"
                " the build goes on without it"
            ]
        assert other.asked == []


def test_what_is_missing_is_a_miss_and_no_trouble(server: Server, tmp_path: Path, opened: Opener) -> None:
    """A result or a blob that is not there costs one question each, and nothing is said or switched off."""
    remote = opened(server.url)
    assert remote.find(KEY) is None
    assert not remote.fetch(DIGEST, len(CONTENT), tmp_path / "blob")
    assert not remote.has(DIGEST)
    assert server.requests == [f"GET {AC}", f"GET {CAS}", f"HEAD {CAS}"]
    assert list(tmp_path.iterdir()) == []
    assert remote.statistics().misses == 1
    assert remote.statistics().trouble is None


def test_an_endless_page_for_what_is_missing_is_a_miss(server: Server, opened: Opener) -> None:
    """The page that goes with a 404 may have no end: it is not read, and the next question is answered all the same."""
    sent = []

    def endless(handler: servers._Handler, body: bytes) -> None:
        handler.head(404, {"Connection": "close"})
        handler.close_connection = True
        sent.extend(handler.wfile.write(b"x" * (1 << 20)) for _ in range(1024))

    server.lie = endless
    remote = opened(server.url)
    assert remote.find(KEY) is None
    assert remote.find(KEY) is None
    assert remote.statistics().misses == 2
    assert len(sent) < 128


def test_nobody_there_is_one_warning(tmp_path: Path, opened: Opener) -> None:
    """A port that nobody listens at is told once, whatever is asked afterwards."""
    url = f"http://127.0.0.1:{servers.free_port()}"
    remote = opened(url, write=True)
    with hearing() as heard:
        assert remote.find(KEY) is None
        assert not remote.fetch(DIGEST, len(CONTENT), tmp_path / "blob")
        assert not remote.publish(KEY, RESULT, {})
    assert heard.texts == [
        f"the remote cache at {url}/main could not be reached: [Errno 111] Connection refused (asked for ac/{KEY});"
        " the build goes on without it"
    ]


def test_nobody_there_while_sending_is_one_warning(tmp_path: Path, opened: Opener) -> None:
    """A remote that is out of reach for an upload is out of reach for reading too: one warning covers both."""
    (tmp_path / "blob").write_bytes(CONTENT)
    remote = opened(f"http://127.0.0.1:{servers.free_port()}", write=True)
    with hearing() as heard:
        assert not remote.store_blob(DIGEST, tmp_path / "blob")
        assert remote.find(KEY) is None
    assert len(heard.texts) == 1
    assert heard.texts[0].endswith(f"(sending cas/{DIGEST}); the build goes on without it")


def test_many_threads_hear_one_warning(full: Server, tmp_path: Path, opened: Opener) -> None:
    """Threads that are under way when the remote is given up meet the same trouble and say nothing of it."""
    full.lie = servers.silent
    remote = opened(full.url, limits=DEAF)
    threads = [
        threading.Thread(target=remote.fetch, args=(DIGEST, len(CONTENT), tmp_path / str(number)))
        for number in range(8)
    ]
    with hearing() as heard:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(heard.texts) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_refused_upload_switches_off_uploads_alone(full: Server, tmp_path: Path, opened: Opener) -> None:
    """A credential that may not write is told once; what is there is read on."""
    full.refuse_writing = 403
    (tmp_path / "other").write_bytes(b"other")
    remote = opened(full.url, write=True)
    digest = hash_bytes(b"other")
    with hearing() as heard:
        assert not remote.store_blob(digest, tmp_path / "other")
        assert not remote.store_blob(digest, tmp_path / "other")
        assert not remote.publish(KEY, RESULT, {})
    assert heard.texts == [
        f"the remote cache at {full.url}/main answered 403 (the credential has no right to this)"
        f" (sending cas/{digest}); the build goes on and sends it nothing more"
    ]
    assert full.requests == [f"HEAD /main/cas/{digest}", f"PUT /main/cas/{digest}"]
    assert not remote.writable
    assert remote.find(KEY) == RESULT
    assert remote.fetch(DIGEST, len(CONTENT), tmp_path / "blob")


def test_a_lie_under_way_leaves_no_result(full: Server, opened: Opener) -> None:
    """A result that arrives after another thread caught the remote lying is not believed."""
    asked, lied = threading.Event(), threading.Event()

    def answer(handler: servers._Handler, body: bytes) -> None:
        if handler.path == AC:
            asked.set()
            lied.wait(5)
            handler.reply(200, body)
        else:
            servers.html(handler, body)

    full.lie = answer
    remote = opened(full.url)
    found: list[RemoteResult | None] = [RESULT]
    thread = threading.Thread(target=lambda: found.__setitem__(0, remote.find(KEY)))
    with hearing() as heard:
        thread.start()
        assert asked.wait(5)
        assert remote.find(TaskKey("b" * 64)) is None
        lied.set()
        thread.join()
    assert found == [None]
    assert len(heard.texts) == 1


def test_what_a_user_waits_for_at_most() -> None:
    """The limits are those that the guide tells."""
    limits = Limits()
    assert (limits.connect, limits.silence, limits.settle) == (5, 10, 60)
    assert (limits.slowest, limits.window, limits.backoff) == (65536, 30, 0.25)
