"""Digests and keys: sha256 as 64 hexadecimal digits. A `Digest` names content, a `TaskKey` work; they never mix."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Self

_SHA256 = re.compile(r"[0-9a-f]{64}")


class _Sha256(str):
    """Text that is a sha256 in lower-case hexadecimal digits; ValueError for any other text."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        if _SHA256.fullmatch(text) is None:
            raise ValueError(f"not a sha256 in hexadecimal digits: {text!r}")
        return super().__new__(cls, text)


class Digest(_Sha256):
    """The sha256 of content."""

    __slots__ = ()


class TaskKey(_Sha256):
    """The sha256 of a task document."""

    __slots__ = ()


def hash_bytes(content: bytes) -> Digest:
    """Return the digest of `content`."""
    return Digest(hashlib.sha256(content).hexdigest())


def hash_file(path: Path) -> Digest:
    """Return the digest of the file at `path`, read in pieces; OSError when it cannot be read."""
    with path.open("rb") as file:
        return Digest(hashlib.file_digest(file, "sha256").hexdigest())
