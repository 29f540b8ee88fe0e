"""The way over HTTP, as bazel-remote and servers of WebDAV take it: GET, HEAD and PUT of `ac/<key>` and `cas/<digest>`.

Nothing is followed, decoded or believed here: a redirect is a refusal, an encoding a lie, and what a body is worth is
for others to find. httpx2 is the continuation of httpx that huggingface_hub speaks HTTP with.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2

from maxbuild.engine.digest import Digest
from maxbuild.engine.remote.pace import Pace
from maxbuild.engine.remote.transfer import outgoing
from maxbuild.engine.remote.transport import Limits, Take
from maxbuild.engine.remote.trouble import Lie, Refusal, RemoteTrouble, Unreachable
from maxbuild.errors import printable

_OK, _MISSING, _STORED = 200, frozenset({404, 410}), frozenset({200, 201, 204})
_SERVER_ERROR = 500
_JSON, _BYTES = "application/json", "application/octet-stream"
_LONGEST_REMARK = 200
_DRAINED = 64 * 1024
_REMARKS: Mapping[int, str] = {
    301: " (a redirect; none is followed)",
    302: " (a redirect; none is followed)",
    303: " (a redirect; none is followed)",
    307: " (a redirect; none is followed)",
    308: " (a redirect; none is followed)",
    401: " (it wants a credential that it knows: see MAXBUILD_REMOTE_TOKEN)",
    403: " (the credential has no right to this)",
    413: " (the blob is too large for it)",
    507: " (it is full)",
}


class _Line:
    """A client of one connection, whose socket is known, so that another thread can cut it."""

    def __init__(self, client: httpx2.Client) -> None:
        self.client = client
        self._socket: socket.socket | None = None

    def trace(self, event: str, details: Mapping[str, Any]) -> None:
        """Note the socket when httpcore tells that it has connected, or has begun to speak TLS over it."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self._socket = details["return_value"].get_extra_info("socket")

    def cut(self) -> None:
        """Make every wait for the peer end at once."""
        if self._socket is not None:
            with suppress(OSError):  # it may be closed by now
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # TLS's own would take its state away


class HttpTransport:
    """Keeps a connection for each request that is under way at once, and uses it again."""

    def __init__(self, url: str, authorization: str | None, limits: Limits) -> None:
        """Take the address of an instance, without slash at its end, and the header that says who asks."""
        self._url, self._limits = url, limits
        self._headers = {"User-Agent": "maxbuild", "Accept-Encoding": "identity"}
        if authorization is not None:
            self._headers["Authorization"] = authorization
        try:
            self._tls = httpx2.create_ssl_context()  # made once: it reads all certificates
        except OSError as error:
            raise Unreachable("could not be reached: SSL_CERT_FILE or SSL_CERT_DIR names no certificates") from error
        self._lock = threading.Lock()
        self._idle: list[_Line] = []
        self._closed = False

    def read(self, place: str, take: Take) -> bool:
        """Hand what lies at `place` to `take`, as it comes; return False where nothing lies."""
        with self._exchange("GET", place, {"Accept": _media_type(place)}) as (response, pace):
            if not _is_there(response):
                _drain(response)
                return False
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise Lie("sent it in an encoding that was not asked for")
            for piece in response.iter_raw():
                pace.move(len(piece))
                take(piece)
        return True

    def holds(self, place: str, size: int | None) -> bool:
        """Return whether something lies at `place`, of `size` bytes where both sides know the size."""
        with self._exchange("HEAD", place, {"Accept": _media_type(place)}) as (response, _):
            if not _is_there(response):
                return False
            length = response.headers.get("Content-Length", "")
            return size is None or not length.isdecimal() or int(length) == size

    def write(self, place: str, content: bytes) -> None:
        """Put `content` at `place`."""
        self._put(place, len(content), iter((content,)))

    def send(self, place: str, path: Path, digest: Digest, size: int) -> None:
        """Put the file at `path` at `place`; a request that stops before its end leaves nothing at the server."""
        self._put(place, size, outgoing(path, digest, size))

    def close(self) -> None:
        """Close the connections that no request uses; the others close when their requests end."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for line in idle:
            line.client.close()

    def _put(self, place: str, size: int, pieces: Iterator[bytes]) -> None:
        # bazel-remote takes no body of unknown length, and JSON under exactly this type.
        headers = {"Content-Type": _media_type(place), "Content-Length": str(size)}
        with self._exchange("PUT", place, headers, pieces) as (response, _):
            if response.status_code not in _STORED:
                raise _refusal(response)
            _drain(response)

    @contextmanager
    def _exchange(
        self, method: str, place: str, headers: Mapping[str, str], pieces: Iterator[bytes] | None = None
    ) -> Iterator[tuple[httpx2.Response, Pace]]:
        """Send a request and give the head of its answer; whatever breaks off on the way is Unreachable."""
        limits, line = self._limits, self._take_line()
        patience, window = limits.silence, limits.window
        if pieces is not None:  # a server may write a large blob once more before it answers
            patience, window = limits.settle, max(window, limits.settle)
        timeout = httpx2.Timeout(limits.silence, connect=limits.connect, read=patience)
        pace = Pace(window, limits.slowest, line.cut)
        try:
            with pace:
                request = line.client.build_request(
                    method,
                    f"{self._url}/{place}",
                    headers=headers,
                    content=None if pieces is None else _counted(pieces, pace),
                    timeout=timeout,
                    extensions={"trace": line.trace},
                )
                response = line.client.send(request, stream=True)
                try:
                    yield response, pace
                finally:
                    response.close()
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            line.client.close()
            raise self._explain(error, pace, patience) from error
        except BaseException:
            line.client.close()
            raise
        self._give_back(line)

    def _take_line(self) -> _Line:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        limits = httpx2.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=30)
        try:
            client = httpx2.Client(verify=self._tls, headers=self._headers, limits=limits, follow_redirects=False)
        except (ValueError, ImportError, httpx2.InvalidURL) as error:
            raise Unreachable("could not be reached: the environment names a proxy that is none") from error
        return _Line(client)

    def _give_back(self, line: _Line) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(line)
                return
        line.client.close()

    def _explain(self, error: Exception, pace: Pace, patience: float) -> RemoteTrouble:
        """Return what `error` means; only what broke off between two bytes is worth a second try."""
        limits = self._limits
        if pace.was_cut:
            return Unreachable(f"moved less than {limits.slowest} bytes a second")
        match error:
            case httpx2.ConnectTimeout():
                return Unreachable(f"could not be reached within {limits.connect:g} s")
            case httpx2.ReadTimeout():
                return Unreachable(f"sent nothing for {patience:g} s")
            case httpx2.WriteTimeout():
                return Unreachable(f"took nothing for {limits.silence:g} s")
            case httpx2.ReadError() | httpx2.WriteError() | httpx2.RemoteProtocolError():
                return Unreachable("broke off", again=True)
            case httpx2.ConnectError():
                return Unreachable(f"could not be reached: {printable(str(error))[:_LONGEST_REMARK]}")
        return Unreachable(f"could not be reached: {type(error).__name__}")  # a proxy's words may hold its password


def _media_type(place: str) -> str:
    """Return the type of what lies at `place`; bazel-remote sends JSON to those only who accept exactly this."""
    return _JSON if place.startswith("ac/") else _BYTES


def _counted(pieces: Iterator[bytes], pace: Pace) -> Iterator[bytes]:
    """Yield `pieces` in parts small enough that each comes well within a window, and note those that went."""
    for piece in pieces:
        for start in range(0, len(piece), _DRAINED):
            part = piece[start : start + _DRAINED]
            yield part
            pace.move(len(part))


def _is_there(response: httpx2.Response) -> bool:
    """Return whether the answer is yes; False when there is nothing, Refusal or Lie for every other answer."""
    status = response.status_code
    if status == _OK:
        return True
    if status in _MISSING:
        return False
    raise _refusal(response)


def _refusal(response: httpx2.Response) -> RemoteTrouble:
    status = response.status_code
    return Refusal(f"answered {status}{_REMARKS.get(status, '')}", again=status >= _SERVER_ERROR)


def _drain(response: httpx2.Response) -> None:
    """Read a short body to its end, so that the connection can be used again; leave a long one, which closes it."""
    count = 0
    for piece in response.iter_raw():
        count += len(piece)
        if count > _DRAINED:
            return
