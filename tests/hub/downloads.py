"""What the tests of downloads have in common: a hub with one large file, and looks into the cache."""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

import faults
from hub_world import REPOSITORY
from server import Fault, Hub

from maxbuild.hub import Fetched, Wanted, fetch_file, list_repository
from maxbuild.lock import LockedRepository

NAME = "model.safetensors"
SIZES = (200_000, 5 << 20)
"""A file that is written by whoever receives it, and one that is written by a thread beside."""


def noise(size: int, seed: int = 0) -> bytes:
    """Return bytes without a pattern, the same ones every time."""
    return random.Random(seed).randbytes(size)


class Remote(NamedTuple):
    """A hub with one large file."""

    hub: Hub
    repository: LockedRepository
    content: bytes

    def fetch(self, *, again: bool = False) -> Fetched:
        """Download the file."""
        (file,) = self.repository.files
        wanted = Wanted(REPOSITORY, self.repository.commit, NAME)
        return fetch_file(wanted, file, lambda _: None, again=again)

    def fail(self, *wrong: Fault, start: str = faults.LARGE) -> None:
        """Have the next requests for the file's bytes go wrong, in this order."""
        self.hub.faults = [(start, fault) for fault in wrong]

    def ranges(self) -> list[str | None]:
        """Return which ranges of the file were asked for."""
        return [request.range for request in self.hub.requests if request.path.startswith(faults.LARGE)]


def remote_of(hub: Hub, content: bytes) -> Remote:
    """Put one file of `content` onto `hub`."""
    hub.push(REPOSITORY, {NAME: content})
    repository = list_repository(REPOSITORY, "main")
    hub.requests.clear()
    return Remote(hub, repository, content)


def partials(cache: Path) -> list[Path]:
    """Return the partial files of the hub cache."""
    return list(cache.glob("*/blobs/*.incomplete"))


def is_untouched(cache: Path) -> bool:
    """Return whether the hub cache holds nothing that anybody would take for a file of the repository."""
    blobs = {path for path in cache.glob("*/blobs/*") if path.suffix != ".incomplete"}
    return not blobs and not list(cache.rglob(NAME))
