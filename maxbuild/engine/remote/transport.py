"""What a remote cache asks of whatever carries its bytes, and the limits it sets to waiting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from maxbuild.engine.digest import Digest

Take: TypeAlias = Callable[[bytes], None]
"""What a body is handed to, piece by piece; it raises to have no more of it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a remote is waited for. A transfer has no limit in all, since blobs may be large: its pace has one.

    `connect`, `silence`, `settle`, `window` and `backoff` are seconds: until a connection stands, between two pieces of
    an answer, until an upload is answered, over which the pace is measured, and before the one retry.
    `slowest` is bytes per second.
    """

    connect: float = 5.0
    silence: float = 10.0
    settle: float = 60.0
    slowest: int = 64 * 1024
    window: float = 30.0
    backoff: float = 0.25


class Transport(Protocol):
    """Carries bytes between files and places such as `cas/<digest>`. Any thread may call it. Raises RemoteTrouble."""

    def read(self, place: str, take: Take) -> bool:
        """Hand what lies at `place` to `take`, as it comes; return False where nothing lies. Nothing is verified."""
        ...

    def holds(self, place: str, size: int | None) -> bool:
        """Return whether something lies at `place`, of `size` bytes where both sides know the size."""
        ...

    def write(self, place: str, content: bytes) -> None:
        """Put `content` at `place`, whole or not at all."""
        ...

    def send(self, place: str, path: Path, digest: Digest, size: int) -> None:
        """Put the file at `path` at `place`, whole or not at all; WrongSource when it is not that content."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...
