"""What goes wrong between a hub and who downloads from it: each a way to answer one request.

They answer in place of where large files lie, so they say nothing that a hub says. What is sent honours `Range` unless
that is the fault.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler

from server import Fault

LARGE = "/large/"
_PIECE = 1 << 16


def refused(status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Fault:
    """Answer with a status and nothing of the file."""
    return lambda handler: _send(handler, status, body, headers or {})


def cut(content: bytes, at: int) -> Fault:
    """Promise all that is asked for, and break off at the byte `at` of the file."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        start = _asked_from(handler)
        _head(handler, 206 if start else 200, _headers(content, start))
        _write(handler, content[start : max(start, at)])
        handler.close_connection = True

    return answer


def stalled(content: bytes, at: int, seconds: float) -> Fault:
    """Promise all, send until the byte `at` of the file, and then nothing for a while."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        cut(content, at)(handler)
        time.sleep(seconds)

    return answer


def dripped(content: bytes, pieces: int, pause: float) -> Fault:
    """Send a byte now and then."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        start = _asked_from(handler)
        _head(handler, 206 if start else 200, _headers(content, start))
        for index in range(start, start + pieces):
            _write(handler, content[index : index + 1])
            time.sleep(pause)
        handler.close_connection = True

    return answer


def from_the_start(content: bytes, at: int | None = None) -> Fault:
    """Take no notice of `Range`: send the file from its beginning, as 200, until the byte `at`."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        _head(handler, 200, {"Content-Length": str(len(content))})
        _write(handler, content[:at])
        handler.close_connection = True

    return answer


def another_range(content: bytes, start: int) -> Fault:
    """Send the file from the byte `start` on, as 206, whatever was asked for."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        _head(handler, 206, _headers(content, start))
        _write(handler, content[start:])

    return answer


def another_version(content: bytes, etag: str, at: int | None = None) -> Fault:
    """Go on where one asks, until the byte `at`, in a file that has the ETag `etag`."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        start = _asked_from(handler)
        _head(handler, 206 if start else 200, {**_headers(content, start), "ETag": f'"{etag}"'})
        _write(handler, content[start:at])
        handler.close_connection = True

    return answer


def without_length(content: bytes, at: int) -> Fault:
    """Say no length, and end at the byte `at` as if that were all."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        start = _asked_from(handler)
        headers = _headers(content, start)
        del headers["Content-Length"]
        _head(handler, 206 if start else 200, {**headers, "Connection": "close"})
        _write(handler, content[start : max(start, at)])
        handler.close_connection = True

    return answer


def wrong_length(content: bytes, length: int) -> Fault:
    """Say another length than the file has."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        _head(handler, 200, {"Content-Length": str(length)})
        _write(handler, content[:length])
        handler.close_connection = True

    return answer


def page(text: str = "<html>Please log in</html>", status: int = 200) -> Fault:
    """Answer with a web page, as networks do that want their users to log in first."""
    return lambda handler: _send(handler, status, text.encode(), {"Content-Type": "text/html; charset=utf-8"})


def sent_on(address: str) -> Fault:
    """Redirect to `address`."""
    return refused(302, {"Location": address})


def _asked_from(handler: BaseHTTPRequestHandler) -> int:
    return int((handler.headers.get("Range") or "bytes=0-").removeprefix("bytes=").removesuffix("-"))


def _headers(content: bytes, start: int) -> dict[str, str]:
    length = {"Content-Length": str(len(content) - start)}
    return {**length, "Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else length


def _send(handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: Mapping[str, str]) -> None:
    _head(handler, status, {"Content-Length": str(len(body)), **headers})
    _write(handler, body)


def _head(handler: BaseHTTPRequestHandler, status: int, headers: Mapping[str, str]) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()


def _write(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    if handler.command == "HEAD":
        return
    try:
        for begin in range(0, len(content), _PIECE):
            handler.wfile.write(content[begin : begin + _PIECE])
    except ConnectionError:  # who asked has gone
        handler.close_connection = True
