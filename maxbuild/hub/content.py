"""Digests of content in the two forms that hubs use; of one content, each is always the same."""

from __future__ import annotations

import hashlib
from pathlib import Path

from maxbuild.lock import GIT_BLOB_SHA1, SHA256


def content_digest(path: Path, algorithm: str) -> str:
    """Return the digest of the file at `path` in hexadecimal digits, read in pieces.

    `git-blob-sha1` is git's name for a file: sha1 of `blob`, the size, and the content. The hub knows no better one for
    small files; against accident it is enough, and what the file becomes in the store is named by sha256.
    Raises OSError when the file cannot be read, ValueError for another algorithm.
    """
    with path.open("rb") as file:
        match algorithm:
            case _ if algorithm == SHA256:
                return hashlib.file_digest(file, "sha256").hexdigest()
            case _ if algorithm == GIT_BLOB_SHA1:
                state = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
                return hashlib.file_digest(file, lambda: state).hexdigest()
    raise ValueError(f"no algorithm for digests: `{algorithm}`")
