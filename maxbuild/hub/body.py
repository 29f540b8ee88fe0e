"""One file's bytes from a hub into a partial file: asked for from where it ends, again and again, until it is whole.

Each try begins at the hub, which signs a fresh address of where the bytes lie. What comes is believed to go on with
what is there only where the server says so.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import httpx2
from huggingface_hub import constants, get_session, hf_hub_url, hf_raise_for_status
from huggingface_hub.errors import FileMetadataError
from huggingface_hub.utils._headers import build_hf_headers
from huggingface_hub.utils._runtime import is_xet_available

from maxbuild.hub.partial import PartialFile
from maxbuild.hub.patience import Patience
from maxbuild.hub.problems import Wanted, origin_of

_MOST_REDIRECTS: Final = 20
_OK, _PARTIAL_CONTENT, _UNSATISFIABLE = 200, 206, 416
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")

WINDOW: Final = 60.0
SLOWEST: Final = 1024
"""Bytes per second, over a window of so many seconds: what drips slower is cut off, as one that says nothing is."""


class WrongContent(Exception):
    """What came for a file is not what is expected of it. `final`: the hub stands by it, so it would come again."""

    def __init__(self, what: str, *, final: bool = False) -> None:
        """Say what came."""
        super().__init__(what)
        self.final = final


class ByXet(Exception):
    """The hub keeps the file in chunks, which another protocol brings."""


class Announced(NamedTuple):
    """What the hub says of a file: how it names the content (its ETag), None where it was not asked."""

    etag: str | None


@dataclass(slots=True)
class _Answer:
    """The answer at the end of the redirects, its body not read yet, and what was said on the way."""

    response: httpx2.Response
    announced: Announced


@dataclass(slots=True)
class _Pace:
    """Notices a body that drips."""

    begin: float = field(default_factory=time.monotonic)
    moved: int = 0

    def move(self, count: int) -> None:
        """Note that `count` bytes came; ReadTimeout where it was too few in a window."""
        self.moved += count
        now = time.monotonic()
        if now - self.begin < WINDOW:
            return
        if self.moved < SLOWEST * (now - self.begin):
            raise httpx2.ReadTimeout(f"fewer than {SLOWEST} bytes per second came")
        self.begin, self.moved = now, 0


def bring(wanted: Wanted, partial: PartialFile, progress: Callable[[int], None], patience: Patience) -> Announced:
    """Bring what `partial` lacks of the file `wanted`, and return what the hub says of it.

    Raises WrongContent or ByXet, OSError when the disk refuses, and what huggingface_hub raises once `patience` is at
    its end. What has come stays in `partial`.
    """
    announced, versions, furthest = Announced(None), set[str](), partial.received
    while partial.received < partial.size or not partial.size:
        try:
            announced = _try(wanted, partial, progress, versions)
            if partial.received == partial.size:
                break
            raise httpx2.RemoteProtocolError("the answer ended before the file did")
        except httpx2.HTTPError as error:  # of which HfHubHTTPError is one
            # What came before and comes again is no step forward: else a server that starts over could go on for ever.
            patience.bear(error, came=partial.received > furthest)
            furthest = max(furthest, partial.received)
    return announced


def _try(wanted: Wanted, partial: PartialFile, progress: Callable[[int], None], versions: set[str]) -> Announced:
    with _ask(wanted, partial.received) as answer:
        response = answer.response
        if response.status_code == _UNSATISFIABLE and partial.received:
            partial.restart()  # the server has less than has come: that was the beginning of something else
            raise httpx2.RemoteProtocolError("the server has no such range of the file")
        hf_raise_for_status(response)
        _check_length(response, partial.size)
        if partial.received and not _goes_on(response, partial.received, versions):
            partial.restart()
            versions.clear()
            if response.status_code == _PARTIAL_CONTENT:
                raise httpx2.RemoteProtocolError("the server sent another part of the file than it was asked for")
        versions |= _version(response)
        pace = _Pace()
        for chunk in response.iter_bytes():
            partial.write(chunk)
            if partial.received > partial.size:
                raise WrongContent(f"more than the expected {partial.size} bytes came")
            progress(partial.received)
            pace.move(len(chunk))
        return answer.announced


@contextmanager
def _ask(wanted: Wanted, start: int) -> Iterator[_Answer]:
    """Ask for the file from the byte `start` on, and follow redirects; the token goes to its own origin alone."""
    url = hf_hub_url(wanted.repo_id, wanted.path or "", revision=wanted.revision)
    headers = {**build_hf_headers(), "Accept-Encoding": "identity", constants.X_HF_DOWNLOAD_COUNTER: "1"}
    if start:
        headers["Range"] = f"bytes={start}-"
    client = get_session()
    request: httpx2.Request | None = client.build_request(
        "GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT
    )
    announced: Announced | None = None
    for _ in range(_MOST_REDIRECTS):
        assert request is not None
        response = client.send(request, stream=True, follow_redirects=False)
        try:
            if announced is None:
                announced = _announced(response)
            if response.next_request is None:
                if announced is None:
                    hf_raise_for_status(response)
                    raise FileMetadataError(_no_hub(response))
                yield _Answer(response, announced)
                return
            request = response.next_request
        finally:
            response.close()
    raise httpx2.TooManyRedirects(f"more than {_MOST_REDIRECTS} redirects")


def _announced(response: httpx2.Response) -> Announced | None:
    """Return what a hub says of the file, in its answer or in the redirect to where the bytes lie; None elsewhere."""
    headers = response.headers
    if response.is_error or constants.HUGGINGFACE_HEADER_X_REPO_COMMIT not in headers:
        return None
    if constants.HUGGINGFACE_HEADER_X_XET_HASH in headers and is_xet_available():
        raise ByXet
    etag = headers.get(constants.HUGGINGFACE_HEADER_X_LINKED_ETAG) or headers.get("ETag")
    return Announced(etag.removeprefix("W/").strip('"') if etag else None)


def _no_hub(response: httpx2.Response) -> str:
    """Return in what way an answer is none of a hub's: as when a network wants its users to log in first."""
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    what = "a web page" if kind == "text/html" else f"an answer without {constants.HUGGINGFACE_HEADER_X_REPO_COMMIT}"
    return f"{origin_of(response.url)} sent {what}"


def _check_length(response: httpx2.Response, size: int) -> None:
    """Raise WrongContent where the server says that the whole file has another size than it must have."""
    if _is_encoded(response):
        return
    whole = _whole_length(response.headers, _starts_at(response))
    if whole is not None and whole != size:
        kind = response.headers.get("Content-Type", "")
        page = ", a web page" if kind.startswith("text/html") else ""
        raise WrongContent(f"{origin_of(response.url)} has {whole} bytes{page}, expected {size}")


def _goes_on(response: httpx2.Response, received: int, versions: set[str]) -> bool:
    """Return whether the body goes on with the `received` bytes that have come.

    A server may send all, a part of its own choice, or a part of another version. `versions` are the ETags that what
    has come was sent under; those of an earlier process nobody knows, and the digest judges.
    """
    return len(versions | _version(response)) <= 1 and not _is_encoded(response) and _starts_at(response) == received


def _version(response: httpx2.Response) -> set[str]:
    return {str(etag)} if (etag := response.headers.get("ETag")) else set()


def _starts_at(response: httpx2.Response) -> int:
    if response.status_code != _PARTIAL_CONTENT:
        return 0
    match = _RANGE.match(response.headers.get("Content-Range", ""))
    return int(match[1]) if match else -1


def _whole_length(headers: Mapping[str, str], start: int) -> int | None:
    if start:
        match = _RANGE.match(headers.get("Content-Range", ""))
        return int(match[2]) if match and match[2] != "*" else None
    length = headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _is_encoded(response: httpx2.Response) -> bool:
    return response.headers.get("Content-Encoding", "identity").lower() != "identity"
