"""Servers on this host to try a remote cache on: nginx as it is deployed, and one that lies in every way we know."""

from __future__ import annotations

import gzip
import os
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest

CONFIGURATION = Path(__file__).parents[3] / "examples" / "ci" / "remote-cache.nginx.conf"
_OTHER_WAYS = ("proxy", "fastcgi", "scgi", "uwsgi")
HTML = b"<!doctype html><html><body>Welcome to the corporate network. Please log in.</body></html>\n"


@dataclass(frozen=True)
class Asked:
    """One request that came in."""

    method: str
    path: str
    headers: dict[str, str]


class Server(ThreadingHTTPServer):
    """Holds bytes under paths and answers truthfully, until `lie` is set: then that answers every GET."""

    daemon_threads = True
    block_on_close = False  # a lie may still be told when the test is over

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content: dict[str, bytes] = {}
        self.asked: list[Asked] = []
        self.lie: Lie | None = None
        self.refuse_writing: int | None = None

    @property
    def url(self) -> str:
        """Return the address."""
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def requests(self) -> list[str]:
        """Return what was asked, as `GET /path`."""
        return [f"{asked.method} {asked.path}" for asked in self.asked]

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that hang up are what is tested."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def handle(self) -> None:
        with suppress(OSError):
            super().handle()

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _note(self) -> bytes | None:
        self.server.asked.append(
            Asked(self.command, self.path, {name.lower(): text for name, text in self.headers.items()})
        )
        return self.server.content.get(self.path)

    def do_GET(self) -> None:
        content = self._note()
        if self.server.lie is not None:
            self.server.lie(self, content or b"")
        elif content is None:
            self.reply(404, b"not found\n")
        else:
            self.reply(200, content)

    def do_HEAD(self) -> None:
        content = self._note()
        self.head(404 if content is None else 200, {"Content-Length": str(len(content or b""))})

    def do_PUT(self) -> None:
        self._note()
        if self.server.refuse_writing is not None:
            self.close_connection = True
            self.reply(self.server.refuse_writing, b"no\n", {"Connection": "close"})
            return
        length = int(self.headers["Content-Length"])
        content = self.rfile.read(length)
        if len(content) == length:  # else the client has hung up
            self.server.content[self.path] = content
            self.reply(201, b"")

    def head(self, status: int, headers: dict[str, str]) -> None:
        """Send the head of an answer."""
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name, text)
        self.end_headers()

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Send an answer."""
        self.head(status, {"Content-Length": str(len(body)), **(headers or {})})
        self.wfile.write(body)


Lie = Callable[[_Handler, bytes], None]


def wrong_bytes(handler: _Handler, body: bytes) -> None:
    """Send as many bytes, of which one is another."""
    handler.reply(200, body[:-1] + bytes([body[-1] ^ 1]))


def short(handler: _Handler, body: bytes) -> None:
    """Leave the last byte out, and say so in the length."""
    handler.reply(200, body[:-1])


def broken_off(handler: _Handler, body: bytes) -> None:
    """Announce all bytes and hang up before the last."""
    handler.head(200, {"Content-Length": str(len(body))})
    handler.wfile.write(body[:-1])
    handler.close_connection = True


def reset(handler: _Handler, body: bytes) -> None:
    """Reset the connection amid the body."""
    handler.head(200, {"Content-Length": str(len(body))})
    handler.wfile.write(body[: len(body) // 2])
    handler.wfile.flush()
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True


def html(handler: _Handler, body: bytes) -> None:
    """Greet, as the gates of hotels and companies do."""
    handler.reply(200, HTML, {"Content-Type": "text/html"})


def endless(handler: _Handler, body: bytes) -> None:
    """Never stop sending (until a GiB has gone, so that a failing test ends)."""
    handler.head(200, {"Connection": "close"})
    handler.close_connection = True
    handler.wfile.write(body)
    for _ in range(1024):
        handler.wfile.write(b"\0" * (1 << 20))


def dripping(handler: _Handler, body: bytes) -> None:
    """Send a byte now and then."""
    handler.head(200, {"Content-Length": str(len(body))})
    for byte in body:
        handler.wfile.write(bytes([byte]))
        time.sleep(0.05)


def dripping_head(handler: _Handler, body: bytes) -> None:
    """Send the head of an answer a byte now and then, and never come to its end."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Padding: ")
    for _ in range(1000):
        handler.wfile.write(b"x")
        time.sleep(0.05)


def silent(handler: _Handler, body: bytes) -> None:
    """Take the request and say nothing until the client hangs up."""
    handler.rfile.read(1)
    handler.close_connection = True


def not_http(handler: _Handler, body: bytes) -> None:
    """Speak another protocol."""
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")
    handler.close_connection = True


def compressed(handler: _Handler, body: bytes) -> None:
    """Send it compressed, though nobody asked."""
    handler.reply(200, gzip.compress(body), {"Content-Encoding": "gzip"})


def status(number: int, headers: dict[str, str] | None = None) -> Lie:
    """Answer with that status."""
    return lambda handler, body: handler.reply(number, b"some words\n", headers)


def once(first: Lie) -> Lie:
    """Lie once, then tell the truth."""
    lies = iter([first])

    def answer(handler: _Handler, body: bytes) -> None:
        next(lies, lambda handler, body: handler.reply(200, body))(handler, body)

    return answer


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Serve while the block lasts."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def free_port() -> int:
    """Return a port that nobody listens at now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return cast("int", listener.getsockname()[1])


def required(what: Any, why: str) -> None:
    """Skip the test where `what` is missing; in continuous integration nothing may be missing."""
    if not what:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)


@contextmanager
def nginx(folder: Path) -> Iterator[Nginx]:
    """Run nginx with the configuration that the guide shows, but for its paths, while the block lasts."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    required(program, "no nginx here: apt-get install nginx-light")
    port, content = free_port(), folder / "content"
    content.mkdir()
    for name in ("main", "pr"):
        (folder / f"{name}.htpasswd").write_text(f"builder:{{PLAIN}}{name}-secret\n")
    (folder / "nginx.conf").write_text(_configuration(folder, content, port))
    command = [str(program), "-p", str(folder), "-c", str(folder / "nginx.conf")]
    log = folder / "nginx.log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        for _ in range(500):
            assert process.poll() is None, log.read_text()
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.02)
        yield Nginx(f"http://127.0.0.1:{port}", content)
    finally:
        process.terminate()
        process.wait()


@dataclass(frozen=True)
class Nginx:
    """The address of a running nginx, and the folder of what it serves."""

    url: str
    content: Path


def _configuration(folder: Path, content: Path, port: int) -> str:
    """Return the example's configuration with the paths of this test in place of those it shows."""
    text = CONFIGURATION.read_text()
    for shown, here in {
        "127.0.0.1:8080": f"127.0.0.1:{port}",
        "/srv/maxbuild-cache": str(content),
        "/etc/nginx/maxbuild-main.htpasswd": str(folder / "main.htpasswd"),
        "/etc/nginx/maxbuild-pr.htpasswd": str(folder / "pr.htpasswd"),
        "/run/maxbuild-cache.pid": str(folder / "nginx.pid"),
        "user www-data;": "",
        "worker_processes auto;": "daemon off; master_process off;",
        # Debian's nginx makes these below /var/lib otherwise, where only root may.
        "http {": "http {\n" + "".join(f"{kind}_temp_path {folder / kind};\n" for kind in _OTHER_WAYS),
    }.items():
        assert shown in text
        text = text.replace(shown, here)
    return text
