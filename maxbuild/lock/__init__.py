"""The lock: which commit each hub repository of a manifest is pinned to, and the size and digest of every file there.

What is locked stays as it is until someone asks for something else: a branch that moved is not followed.
"""

from __future__ import annotations

from maxbuild.lock.contents import (
    DEFAULT_REVISION,
    GIT_BLOB_SHA1,
    SHA256,
    Lock,
    LockedAddress,
    LockedFile,
    LockedRepository,
    is_commit,
    lock_name,
)
from maxbuild.lock.file import SCHEMA, lock_path, read_lock, write_lock

__all__ = [
    "DEFAULT_REVISION",
    "GIT_BLOB_SHA1",
    "SCHEMA",
    "SHA256",
    "Lock",
    "LockedAddress",
    "LockedFile",
    "LockedRepository",
    "is_commit",
    "lock_name",
    "lock_path",
    "read_lock",
    "write_lock",
]
