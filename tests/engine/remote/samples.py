"""One result, limits and open ears: what the tests of the remote cache share."""

from __future__ import annotations

import resource
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from maxbuild.engine import Digest, TaskKey, hash_bytes
from maxbuild.engine.remote import Limits, RemoteCache, RemoteCacheWarning, RemoteOutput, RemoteResult, open_remote

PATIENT = Limits(connect=30, silence=60, settle=60, window=60, backoff=0.01)
DEAF = replace(PATIENT, silence=1)
HASTY = replace(PATIENT, slowest=1000, window=0.6)
KEY = TaskKey("a" * 64)
CONTENT = b"compiled region\n" * 100
DIGEST = hash_bytes(CONTENT)
RESULT = RemoteResult({"region.pt2": RemoteOutput(DIGEST, len(CONTENT))}, 12.5)


@dataclass
class Heard:
    """The warnings of a block."""

    texts: list[str] = field(default_factory=list)


@contextmanager
def hearing() -> Iterator[Heard]:
    """Note the warnings of remote caches while the block lasts; any other is an error, as everywhere."""
    heard = Heard()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error")
        warnings.simplefilter("always", RemoteCacheWarning)
        yield heard
        heard.texts.extend(str(warning.message) for warning in caught)


class Opener:
    """Opens remote caches, and closes them all when the test is over."""

    def __init__(self) -> None:
        self._remotes: list[RemoteCache] = []

    def __call__(
        self,
        url: str,
        *,
        instance: str = "main",
        write: bool = False,
        limits: Limits = PATIENT,
        environ: Mapping[str, str] = MappingProxyType({"MAXBUILD_REMOTE_TOKEN": "t0ken"}),
    ) -> RemoteCache:
        """Return the remote cache at `url`, with a token, and limits that a busy host keeps."""
        self._remotes.append(open_remote(url, instance=instance, write=write, environ=environ, limits=limits))
        return self._remotes[-1]

    def close(self) -> None:
        """Close them all."""
        for remote in self._remotes:
            remote.close()


def files_of(folder: Path, contents: Mapping[str, bytes]) -> dict[Digest, Path]:
    """Write files and return them by digest."""
    paths = {}
    for name, content in contents.items():
        path = folder / name
        path.write_bytes(content)
        paths[hash_bytes(content)] = path
    return paths


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Let the kernel refuse to write beyond `size` bytes of any file, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
