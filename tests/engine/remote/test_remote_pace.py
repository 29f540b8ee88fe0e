"""A remote that is slow rather than silent: transfers have a pace to keep, in both directions, over TLS too."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from remote import servers
from remote.samples import CONTENT, DEAF, DIGEST, HASTY, KEY, PATIENT, Opener, hearing
from remote.servers import Server, required, serving

from maxbuild.engine import hash_file
from maxbuild.engine.remote import Limits

LARGE = 50_000_000  # more than the buffers of two sockets hold


Serve = Callable[[socket.socket, threading.Event], None]
"""Sees to a connection until it is gone or the event says that nobody waits for an answer any more."""


@contextmanager
def listening(serve: Serve) -> Iterator[str]:
    """Let `serve` see to one connection, for as long as the block lasts: a busy host may need long to give it up."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            with suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    serve(connection, over)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            thread.join()


def _nothing_there(connection: socket.socket) -> None:
    """Answer the question whether a blob is there."""
    request = b""
    while not request.endswith(b"\r\n\r\n"):
        request += connection.recv(4096)
    connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")


def _reads_nothing(connection: socket.socket, over: threading.Event) -> None:
    _nothing_there(connection)
    over.wait()


def _reads_a_byte_now_and_then(connection: socket.socket, over: threading.Event) -> None:
    _nothing_there(connection)
    while not over.wait(0.02) and connection.recv(1):
        pass


def _reads_and_answers_a_byte_now_and_then(connection: socket.socket, over: threading.Event) -> None:
    _nothing_there(connection)
    connection.recv(100_000)
    while not over.wait(0.02):
        connection.sendall(b"H")


@pytest.mark.parametrize(
    ("serve", "size", "limits", "words"),
    [
        (_reads_nothing, LARGE, DEAF, "took nothing for 1 s"),
        (_reads_a_byte_now_and_then, LARGE, replace(HASTY, settle=0.6), "moved less than 1000 bytes a second"),
        (
            _reads_and_answers_a_byte_now_and_then,
            10,
            replace(HASTY, settle=3),
            "moved less than 1000 bytes a second",
        ),
        (_reads_nothing, 10, replace(PATIENT, settle=1), "sent nothing for 1 s"),
    ],
)
def test_an_upload_that_stands_still_is_given_up(
    serve: Serve,
    size: int,
    limits: Limits,
    words: str,
    tmp_path: Path,
    opened: Opener,
) -> None:
    """A server that takes an upload slowly, or never says that it has it, is given up with one warning."""
    path = tmp_path / "blob"
    with path.open("wb") as file:
        file.truncate(size)
    digest = hash_file(path)
    with listening(serve) as url, hearing() as heard:
        remote = opened(url, write=True, limits=limits)
        assert not remote.store_blob(digest, path)
        assert remote.find(KEY) is None
        remote.close()
    assert heard.texts == [
        f"the remote cache at {url}/main {words} (sending cas/{digest}); the build goes on without it"
    ]


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[Server, Path]]:
    """Return a server that speaks TLS, and the certificate to trust."""
    openssl = shutil.which("openssl")
    required(openssl, "no openssl here: apt-get install openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    command = [str(openssl), "req", *kind, *subject, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = Server()
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with serving(server):
        yield server, certificate


def test_pace_is_kept_over_tls(
    secure: tuple[Server, Path], tmp_path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over TLS blobs come as they do without, and a byte now and then is cut short all the same."""
    server, certificate = secure
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    url = server.url.replace("http:", "https:")
    server.content[f"/main/cas/{DIGEST}"] = CONTENT
    assert opened(url).fetch(DIGEST, len(CONTENT), tmp_path / "blob")
    for lie in (servers.dripping, servers.dripping_head):
        server.lie = lie
        with hearing() as heard:
            assert not opened(url, limits=HASTY).fetch(DIGEST, len(CONTENT), tmp_path / "other")
        assert heard.texts == [
            f"the remote cache at {url}/main moved less than 1000 bytes a second (asked for cas/{DIGEST});"
            " the build goes on without it"
        ]


def test_a_certificate_that_nobody_trusts_is_one_warning(
    secure: tuple[Server, Path], opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that cannot prove its name is out of reach; no request, so no credential, comes to it."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    server, _ = secure
    url = server.url.replace("http:", "https:")
    with hearing() as heard:
        assert opened(url).find(KEY) is None
    assert len(heard.texts) == 1
    assert heard.texts[0].startswith(f"the remote cache at {url}/main could not be reached: [SSL: CERTIFICATE_VERIFY_")
    assert server.asked == []
