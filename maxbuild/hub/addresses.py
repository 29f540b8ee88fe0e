"""Files from addresses outside of the hub: fetched without any token, hashed as their bytes pass, kept by content.

They lie under HF_ASSETS_CACHE, the place that huggingface_hub has for what others cache beside its own files.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import urlsplit

import httpx2
from huggingface_hub import constants

from maxbuild.errors import MaxbuildError, StoreError
from maxbuild.lock import LockedAddress

WAITS: Final = (1.0, 3.0, 9.0)
"""Seconds before each further try; each goes on where the one before broke off."""

_SECONDS_OF_SILENCE: Final = 30.0
_MOST_REDIRECTS: Final = 5
_PASSES: Final = frozenset({408, 429, 500, 502, 503, 504})
_PARTIAL, _OK, _UNSATISFIABLE = 206, 200, 416


class _BrokenOffError(Exception):
    """The connection broke, or the server stumbled; what has come so far is kept."""


@dataclass
class _Arrival:
    """What has arrived of a file: its bytes on disk, their number, and their hash so far."""

    file: BinaryIO
    size: int = 0
    etag: str | None = None
    hash: hashlib._Hash = field(default_factory=hashlib.sha256)

    def add(self, chunk: bytes) -> None:
        self.file.write(chunk)
        self.hash.update(chunk)
        self.size += len(chunk)

    def begin_again(self) -> None:
        self.file.seek(0)
        self.file.truncate()
        self.size, self.hash = 0, hashlib.sha256()


def address_place(file: LockedAddress) -> Path:
    """Return where the content of `file` is kept on this host, whether it is there or not."""
    return _folder() / file.sha256 / file.url.rpartition("/")[2]


def fetch_address(url: str, progress: Callable[[int], None] = lambda _: None) -> LockedAddress:
    """Fetch what lies at `url` now, keep it, and say what it is.

    No token and no password goes with the request, to whichever host it is redirected. `progress` hears how many bytes
    have come. Raises MaxbuildError when nobody gives the file, StoreError when the disk refuses.
    """
    if constants.is_offline_mode():
        raise MaxbuildError(
            f"cannot fetch {url}: the network is not to be used",
            hint="run once without `--offline` and HF_HUB_OFFLINE, or bring the lock and the cache of another host",
        )
    scratch = _folder() / f".{secrets.token_hex(8)}"
    try:
        scratch.parent.mkdir(parents=True, exist_ok=True)
        with scratch.open("xb") as file:
            arrival = _Arrival(file)
            _fetch(url, arrival, progress)
            file.flush()
            os.fsync(file.fileno())
        locked = LockedAddress(url, arrival.size, arrival.hash.hexdigest())
        place = address_place(locked)
        place.parent.mkdir(exist_ok=True)
        scratch.replace(place)
    except OSError as error:
        raise StoreError(
            f"could not keep {url}",
            causes=[f"{scratch.parent}: {error.strerror or error}"],
            hint="make room, or choose another place with HF_HOME or HF_ASSETS_CACHE",
        ) from error
    finally:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)
    return locked


def _folder() -> Path:
    return Path(constants.HF_ASSETS_CACHE) / "maxbuild" / "addresses"


def _fetch(url: str, arrival: _Arrival, progress: Callable[[int], None]) -> None:
    """Fetch in as many tries as it takes, at most one more than there are waits."""
    # No authentication of any kind, and no redirect by itself: where one leads is looked at first.
    with httpx2.Client(timeout=_SECONDS_OF_SILENCE, follow_redirects=False) as client:
        for wait in (*WAITS, None):
            try:
                _fetch_once(client, url, arrival, progress)
            except _BrokenOffError as error:
                if wait is None:
                    raise _failure(url, str(error), "run again; if it stays so, fetch the file yourself") from error
                time.sleep(wait)
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                raise _failure(url, _harmless(error), "check the address, the network and the proxy") from error
            else:
                return


def _fetch_once(client: httpx2.Client, url: str, arrival: _Arrival, progress: Callable[[int], None]) -> None:
    headers = {"Accept-Encoding": "identity"}
    # `If-Range` makes the server send all of a file that is another by now.
    if arrival.size and arrival.etag:
        headers |= {"Range": f"bytes={arrival.size}-", "If-Range": arrival.etag}
    elif arrival.size:
        arrival.begin_again()
    try:
        for response in _redirected(client, url, headers):
            status = response.status_code
            if status in _PASSES or status == _UNSATISFIABLE:
                if status == _UNSATISFIABLE:
                    arrival.begin_again()
                raise _BrokenOffError(f"{_host(str(response.url))} answered {status}")
            if status not in {_OK, _PARTIAL}:
                raise _failure(url, f"{_host(str(response.url))} answered {status}", _hint(status))
            if status == _OK and arrival.size:
                arrival.begin_again()
            _receive(response, arrival, progress)
    except (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError) as error:
        raise _BrokenOffError(_harmless(error)) from error


def _redirected(client: httpx2.Client, url: str, headers: dict[str, str]) -> Iterator[httpx2.Response]:
    """Yield the answer at the end of the redirects, its body not yet read."""
    address = url
    for _ in range(_MOST_REDIRECTS + 1):
        with client.stream("GET", address, headers=headers) as response:
            if not response.has_redirect_location:
                yield response
                return
            following = str(response.url.join(response.headers["Location"]))
        if urlsplit(address).scheme == "https" and urlsplit(following).scheme != "https":
            raise _failure(url, f"it is redirected to {_host(following)} without encryption", "name another address")
        if urlsplit(following).scheme not in {"http", "https"}:
            raise _failure(url, "it is redirected to what is no address of the web", "name another address")
        address = following
    raise _failure(url, f"it is redirected more than {_MOST_REDIRECTS} times", "name the address where it ends")


def _receive(response: httpx2.Response, arrival: _Arrival, progress: Callable[[int], None]) -> None:
    """Take the body as it comes; the client raises RemoteProtocolError where fewer bytes come than were announced."""
    etag = response.headers.get("ETag", "")
    arrival.etag = etag if etag and not etag.startswith("W/") else None
    for chunk in response.iter_raw():  # as it comes: with a size, what came before a break would be lost
        arrival.add(chunk)
        progress(arrival.size)


def _failure(url: str, cause: str, hint: str) -> MaxbuildError:
    return MaxbuildError(f"could not fetch {url}", causes=[cause], hint=hint)


def _hint(status: int) -> str:
    if status in {401, 403}:
        return "no token is sent to addresses outside of the hub: fetch the file yourself, and name it as a local file"
    return "check the address"


def _host(address: str) -> str:
    return urlsplit(address).hostname or "the host"


def _harmless(error: Exception) -> str:
    """Return what `error` says, without the queries of addresses, which may be signatures."""
    text = re.sub(r"(https?://)[^/\s@]*@", r"\1", str(error)) or type(error).__name__
    return re.sub(r"(https?://[^\s?]*)\?\S*", r"\1", text)
