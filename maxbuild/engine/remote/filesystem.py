"""The way over fsspec: object stores and shared folders, with the credentials that a provider's library finds itself.

An object store shows an object when it is whole; in a folder a file is written beside its place and renamed. What is
sent is hashed before, what comes is hashed by the receiver.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from maxbuild.engine.digest import Digest
from maxbuild.engine.remote.transfer import PIECE, outgoing
from maxbuild.engine.remote.transport import Limits, Take
from maxbuild.engine.remote.trouble import Refusal, RemoteTrouble, Unreachable

_BLOCK = 8 * 1024 * 1024
_S3_ATTEMPTS = 2


class FilesystemTransport:
    """A folder of a file system that fsspec opens."""

    def __init__(self, scheme: str, url: str, limits: Limits) -> None:
        """Take the address of an instance, without slash at its end; Unreachable when its library refuses it."""
        self._limits = limits
        self._is_folder = scheme == "file"
        with _provider():
            # fsspec has no types of its own.
            open_url: Callable[..., tuple[Any, str]] = import_module("fsspec.core").url_to_fs
            self._files, self._root = open_url(
                url, skip_instance_cache=True, use_listings_cache=False, **_options(scheme, limits)
            )
        if scheme == "s3":
            self._files.retries = _S3_ATTEMPTS  # s3fs tries five times, each as long as the limits say

    def read(self, place: str, take: Take) -> bool:
        """Hand what lies at `place` to `take`, as it comes; return False where nothing lies."""
        try:
            with _provider():
                file = self._files.open(f"{self._root}/{place}", "rb", block_size=_BLOCK)
        except _Missing:
            return False
        try:
            for piece in self._pieces(file):
                take(piece)
        finally:
            with suppress(Exception):
                file.close()
        return True

    def _pieces(self, file: Any) -> Iterator[bytes]:
        """Yield what is in `file`; Unreachable as soon as it comes too slowly."""
        start, count = time.monotonic(), 0
        while True:
            with _provider():
                piece: bytes = file.read(PIECE)
            if not piece:
                return
            yield piece
            count += len(piece)
            elapsed = time.monotonic() - start
            if elapsed > self._limits.window and count < elapsed * self._limits.slowest:
                raise Unreachable(f"moved less than {self._limits.slowest} bytes a second")

    def holds(self, place: str, size: int | None) -> bool:
        """Return whether something lies at `place`, of `size` bytes where both sides know the size."""
        try:
            with _provider():
                there = self._files.info(f"{self._root}/{place}").get("size")
        except _Missing:
            return False
        return size is None or there is None or there == size

    def write(self, place: str, content: bytes) -> None:
        """Put `content` at `place`."""
        with self._new(place) as target, _provider():
            self._files.pipe_file(target, content)

    def send(self, place: str, path: Path, digest: Digest, size: int) -> None:
        """Put the file at `path` at `place`."""
        for _ in outgoing(path, digest, size):
            pass  # WrongSource is raised before anything leaves
        with self._new(place) as target, _provider():
            self._files.put_file(str(path), target)

    def close(self) -> None:
        """Nothing is held open here: providers' libraries look after their own connections."""

    @contextmanager
    def _new(self, place: str) -> Iterator[str]:
        """Give the name to write to, so that what is at `place` is whole; nobody's name for a place is ever missing."""
        target = f"{self._root}/{place}"
        try:
            if not self._is_folder:
                yield target
                return
            aside = f"{target}.{secrets.token_hex(8)}"
            try:
                yield aside
                with _provider():
                    self._files.mv(aside, target)
            except BaseException:
                with suppress(Exception):
                    self._files.rm_file(aside)
                raise
        except _Missing as missing:
            raise Refusal("has no such bucket or folder") from missing


class _Missing(RemoteTrouble):
    """Nothing lies there."""


@contextmanager
def _provider() -> Iterator[None]:
    """Turn what a provider's library raises into trouble. Its words are left out: they may hold signed addresses."""
    try:
        yield
    except FileNotFoundError as error:
        raise _Missing("has nothing there") from error
    except PermissionError as error:
        raise Refusal("refused access") from error
    except OSError as error:
        raise Unreachable(f"failed: {error.strerror or type(error).__name__}") from error
    except Exception as error:  # each provider's library raises errors of its own
        raise Unreachable(f"failed: {type(error).__name__}") from error


def _options(scheme: str, limits: Limits) -> Mapping[str, Any]:
    """Return what the provider's library is told beside its own environment."""
    match scheme:
        case "file":
            return {"auto_mkdir": True}
        case "s3":
            waits = {"connect_timeout": limits.connect, "read_timeout": limits.silence, "retries": {"max_attempts": 0}}
            return {"config_kwargs": waits, "max_concurrency": 2}  # each part under way is in memory
    return {}
