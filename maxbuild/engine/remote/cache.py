"""The remote cache as the engine sees it: it finds, fetches and publishes; what goes wrong there ends no build.

The first trouble is told by one warning and switches the remote off, so that a build never waits for it twice; an
upload that is refused switches off uploads alone.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from maxbuild.engine import disk
from maxbuild.engine.digest import Digest, TaskKey
from maxbuild.engine.remote.action import LARGEST_DOCUMENT, NotAResult, RemoteOutput, RemoteResult, decode, encode
from maxbuild.engine.remote.transfer import EMPTY, WrongSource, receive
from maxbuild.engine.remote.transport import Limits, Transport
from maxbuild.engine.remote.trouble import Lie, RemoteCacheWarning, RemoteTrouble, Unreachable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RemoteStatistics:
    """What passed: results found and not found, bytes of blobs in and out, and what is wrong where something is."""

    hits: int
    misses: int
    fetched_bytes: int
    stored_bytes: int
    trouble: str | None


class RemoteCache:
    """One instance of a remote cache. Any thread may use it; only a failing disk of this host raises (StoreError)."""

    def __init__(self, address: str, connect: Callable[[], Transport], *, writable: bool, limits: Limits) -> None:
        """Take the address as people may read it, and what opens the way to it with the first request."""
        self.address = address
        self._connect = connect
        self._limits = limits
        self._lock = threading.Lock()
        self._transport: Transport | None = None
        self._reads, self._writes = True, writable
        self._stored: set[Digest] = set()
        self._hits = self._misses = self._fetched_bytes = self._stored_bytes = 0
        self._troubles: list[str] = []

    @property
    def writable(self) -> bool:
        """Return whether results are taken: whether that was asked for, and has not been given up since."""
        return self._writes

    def find(self, key: TaskKey) -> RemoteResult | None:
        """Return what the remote says that the task with `key` left; None where it says nothing that can be used.

        It says so and no more: the blobs it names may be missing, and are compared with their digests by `fetch`.
        """
        place = f"ac/{key}"

        def look(transport: Transport) -> RemoteResult | None:
            result = _read_result(transport, place)
            with self._lock:
                self._hits += result is not None
                self._misses += result is None
            return result

        result = self._ask(place, look)
        return result if self._reads else None  # another thread may have caught the remote lying meanwhile

    def fetch(self, digest: Digest, size: int, destination: Path) -> bool:
        """Write the blob `digest` of `size` bytes into the new file `destination`; return False where it is not had.

        The file exists afterwards only where True is returned, and its bytes are then those of the digest.
        Raises StoreError when the disk fails.
        """
        if digest == EMPTY and size == 0:
            return receive(lambda _: True, digest, size, destination)
        place = f"cas/{digest}"

        def bring(transport: Transport) -> bool:
            return receive(lambda take: transport.read(place, take), digest, size, destination)

        there = self._ask(place, bring) or False
        with self._lock:
            self._fetched_bytes += size if there else 0
        return there

    def has(self, digest: Digest) -> bool:
        """Return whether the remote says that it holds the blob `digest`."""
        place = f"cas/{digest}"
        return digest == EMPTY or self._ask(place, lambda transport: transport.holds(place, None)) or False

    def store_blob(self, digest: Digest, path: Path) -> bool:
        """Send the file at `path` unless the remote holds it; return whether it is there now.

        A file whose bytes are not those of `digest` is not sent. Raises StoreError when it cannot be read.
        """
        if not self._writes:
            return False
        if digest == EMPTY or digest in self._stored:
            return True
        size = _size_of(path)
        if not size:  # a body of no bytes has arrived whole before anyone could look at it
            return False
        stored = self._ask(f"cas/{digest}", lambda transport: _send(transport, digest, path, size), writing=True)
        if stored is None:
            return False
        with self._lock:
            self._stored.add(digest)
            self._stored_bytes += stored
        return True

    def publish(self, key: TaskKey, result: RemoteResult, blobs: Mapping[Digest, Path]) -> bool:
        """Send the blobs of `result` and, once the remote holds them all, `result` itself; return whether it has it.

        A result that no reader would take is not sent. Raises StoreError when a blob cannot be read.
        """
        if not self._writes:
            return False
        try:
            document = encode(result)
        except NotAResult:
            return False
        for output in result.outputs.values():
            if not self._is_there(output, blobs.get(output.digest)):
                return False

        def put(transport: Transport) -> bool:
            transport.write(f"ac/{key}", document)
            return True

        return self._ask(f"ac/{key}", put, writing=True) or False

    def _is_there(self, output: RemoteOutput, path: Path | None) -> bool:
        """Return whether the remote holds the content of `output`, now that it was sent where there is a file of it."""
        if path is None or output.digest == EMPTY:
            return self.has(output.digest)
        return _size_of(path) == output.size and self.store_blob(output.digest, path)

    def statistics(self) -> RemoteStatistics:
        """Return what passed so far."""
        with self._lock:
            trouble = "; ".join(self._troubles) or None
            return RemoteStatistics(self._hits, self._misses, self._fetched_bytes, self._stored_bytes, trouble)

    def close(self) -> None:
        """Let go of connections; from now on nothing is found and nothing is taken."""
        with self._lock:
            self._reads = self._writes = False
            transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()

    def _ask(self, place: str, action: Callable[[Transport], T], *, writing: bool = False) -> T | None:
        """Return what `action` returns, tried a second time where that helps; None when the remote is of no use."""
        if not (self._writes if writing else self._reads):
            return None
        try:
            try:
                return action(self._way())
            except RemoteTrouble as trouble:
                if not trouble.again:
                    raise
            time.sleep(self._limits.backoff)
            return action(self._way())
        except WrongSource:
            return None
        except RemoteTrouble as trouble:
            self._give_up(trouble, place, writing=writing)
            return None

    def _way(self) -> Transport:
        """Return the transport, opened with the first request."""
        with self._lock:
            if self._transport is None:
                self._transport = self._connect()
            return self._transport

    def _give_up(self, trouble: RemoteTrouble, place: str, *, writing: bool) -> None:
        """Switch off what `trouble` makes useless, and say so, once: threads that were under way meet it in silence."""
        only_writing = writing and not isinstance(trouble, Unreachable)
        told = f"the remote cache at {self.address} {trouble.what} ({'sending' if writing else 'asked for'} {place})"
        with self._lock:
            news = self._writes if only_writing else self._reads
            self._writes = False
            self._reads = self._reads and only_writing
            if news:
                self._troubles.append(told)
        if news:
            rest = "goes on and sends it nothing more" if only_writing else "goes on without it"
            warnings.warn(f"{told}; the build {rest}", RemoteCacheWarning, stacklevel=2)


def _read_result(transport: Transport, place: str) -> RemoteResult | None:
    """Return the result at `place`, None where there is none; Lie when it is something else."""
    content = bytearray()

    def take(piece: bytes) -> None:
        if len(content) + len(piece) > LARGEST_DOCUMENT:
            raise Lie("sent more than an action result can hold")
        content.extend(piece)

    if not transport.read(place, take):
        return None
    try:
        return decode(bytes(content))
    except NotAResult as error:
        raise Lie(f"sent something else than an action result: {error}") from error


def _size_of(path: Path) -> int | None:
    """Return the size of the file at `path`, None where there is none; StoreError when nobody can tell."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None
    except OSError as error:
        raise disk.storage_error(error, "read", path) from error


def _send(transport: Transport, digest: Digest, path: Path, size: int) -> int:
    """Send the blob at `path` unless it is there whole; return how many bytes went."""
    place = f"cas/{digest}"
    if transport.holds(place, size):
        return 0
    transport.send(place, path, digest, size)
    return size
