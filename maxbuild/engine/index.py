"""The index: small JSON rows in diskcache, opened so that no row can make this program unpickle or leave its folder.

Stock diskcache unpickles what a row says it should, follows a row's file name anywhere, and evicts at 1 GiB
(CVE-2025-69872). Here a row is bytes under text, inside the database, or it is refused and counts as absent.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import sqlite3
import threading
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import diskcache
from diskcache.core import (
    DBNAME,
    DEFAULT_SETTINGS,
    METADATA,
    MODE_RAW,
)

from maxbuild.engine import disk
from maxbuild.engine.canonical import JSON
from maxbuild.errors import StoreError

Answer = TypeVar("Answer")

_SETTINGS: dict[str, Any] = {
    **{name: value for name, value in DEFAULT_SETTINGS.items() if name.startswith("sqlite_")},
    "eviction_policy": "none",
    "cull_limit": 0,
    "statistics": 0,
    "tag_index": 0,
}
_BROKEN = frozenset({sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_MISMATCH})
_PRIMARY_CODE = 0xFF  # sqlite's extended codes keep the primary one in the low byte


class BrokenIndexWarning(UserWarning):
    """The index, or a row of it, is not what this program wrote; it counts as absent."""


class RefusedRow(ValueError):
    """A row is something other than bytes under text inside the database."""


class BytesDisk(diskcache.Disk):  # type: ignore[misc]
    """Turns rows into values for diskcache: bytes under text keys, inside the database, nothing else either way.

    No file is ever named by a row, so there is none to follow or to remove. RefusedRow is raised for everything else.
    """

    def hash(self, key: object) -> NoReturn:  # noqa: ARG002
        """Refuse: only sharded caches ask, and this index is none."""
        raise RefusedRow("the index is not sharded")

    def put(self, key: object) -> tuple[str, bool]:
        """Return the database key for `key`, which must be text."""
        if type(key) is not str:
            raise RefusedRow(f"a key must be text, not {type(key).__name__}")
        return key, True

    def get(self, key: object, raw: object) -> str:
        """Return the key of a row."""
        if type(key) is not str or raw != 1:
            raise RefusedRow("a row's key is not plain text")
        return key

    def store(self, value: object, read: bool, key: object = None) -> tuple[int, int, None, memoryview]:  # noqa: ARG002
        """Return the columns for `value`, which must be bytes."""
        if type(value) is not bytes or read:
            raise RefusedRow(f"a value must be bytes, not {type(value).__name__}")
        return 0, MODE_RAW, None, sqlite3.Binary(value)

    def fetch(self, mode: object, filename: object, value: object, read: object) -> bytes:
        """Return the value of a row."""
        if mode != MODE_RAW or filename is not None or type(value) is not bytes or read:
            raise RefusedRow("a row's value is not plain bytes")
        return value

    def filename(self, key: object = None, value: object = None) -> NoReturn:  # noqa: ARG002
        """Refuse: values are kept inside the database."""
        raise RefusedRow("the index keeps no files")

    def remove(self, file_path: object) -> None:
        """Remove nothing: a file name in a row is not one of ours."""


class Index:
    """Rows by key. A broken index is set aside with a warning and started empty: rows can be made again."""

    def __init__(self, directory: Path) -> None:
        """Open the index in `directory`, which is made where missing; StoreError when it cannot be written."""
        if os.path.expandvars(directory) != str(directory):  # diskcache would expand it too
            raise StoreError(f"the store's path holds a variable: `{directory}`", hint="choose a path without `$`")
        self._directory = directory
        self._mutex = threading.Lock()
        self._cache = self._open()

    def get(self, key: str) -> bytes | None:
        """Return the value under `key`, None where there is none or the row is refused."""
        try:
            value: bytes | None = self._attempt(lambda cache: cache.get(key))
        except RefusedRow as refusal:
            self._warn(f"a row was refused and counts as absent: {refusal}")
            return None
        return value

    def get_json(self, key: str) -> JSON:
        """Return the JSON value under `key`; null where there is none, or where the bytes are no JSON."""
        content = self.get(key)
        try:
            return None if content is None else json.loads(content)
        except ValueError:
            self._warn("a row is no JSON and counts as absent")
            return None

    def set_json(self, key: str, value: object) -> None:
        """Put `value`, which JSON can spell, under `key`."""
        content = json.dumps(value, separators=(",", ":")).encode()
        self._attempt(lambda cache: cache.set(key, content))

    def delete(self, key: str) -> None:
        """Remove the row under `key`; nothing happens where there is none."""
        self._attempt(lambda cache: cache.delete(key))

    def keys(self, prefix: str) -> list[str]:
        """Return every text key that begins with `prefix`, sorted."""
        above = prefix + "\U0010ffff"
        query = "SELECT key FROM Cache WHERE raw = 1 AND typeof(key) = 'text' AND key >= ? AND key < ? ORDER BY key"
        with closing(sqlite3.connect(self._directory / DBNAME)) as connection:
            return [key for (key,) in connection.execute(query, (prefix, above))]

    def size(self) -> int:
        """Return the bytes the database takes."""
        return int(self._attempt(lambda cache: cache.volume()))

    def close(self) -> None:
        """Close this thread's connection; the next use opens another."""
        self._cache.close()

    def _open(self) -> Any:
        disk.make_directory(self._directory)
        disk.restrict_directory(self._directory)
        for last_try in (False, True):
            try:
                self._check_settings()
                return diskcache.Cache(str(self._directory), disk=BytesDisk, **_SETTINGS)
            except (sqlite3.Error, RefusedRow) as error:
                if last_try or not _is_broken(error):
                    raise self._unusable(error) from error
                self._set_aside(error)
        raise AssertionError("unreachable")

    def _check_settings(self) -> None:
        """Refuse settings diskcache would obey that are not ours: each becomes an attribute, or text of a PRAGMA."""
        database = self._directory / DBNAME
        if not database.exists():
            return
        with closing(sqlite3.connect(database)) as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'Settings'").fetchall():
                return
            for name, value in connection.execute("SELECT key, value FROM Settings"):
                known = name in DEFAULT_SETTINGS or name in METADATA
                if not known or not (isinstance(value, int) or value == _SETTINGS.get(name)):
                    raise RefusedRow(f"unknown setting {name!r}")

    def _attempt(self, operation: Callable[[Any], Answer]) -> Answer:
        cache = self._cache
        try:
            return operation(cache)
        except diskcache.Timeout as error:
            raise self._unusable(error) from error
        except sqlite3.Error as error:
            if not _is_broken(error):
                raise self._unusable(error) from error
            with self._mutex:
                if self._cache is cache:  # else another thread has replaced it already
                    self._set_aside(error)
                    self._cache = self._open()
            return operation(self._cache)

    def _set_aside(self, error: Exception) -> None:
        aside = self._directory.with_name(f"{self._directory.name}.broken-{secrets.token_hex(4)}")
        self._warn(f"it is set aside as `{aside.name}` and started empty: {error}")
        disk.rename(self._directory, aside)
        disk.make_directory(self._directory)

    def _unusable(self, error: Exception) -> StoreError:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            return disk.storage_error(OSError(errno.ENOSPC, str(error)), "write to the index", self._directory)
        cause = "it stayed locked, or may not be written" if isinstance(error, diskcache.Timeout) else str(error)
        return StoreError(
            f"could not use the index `{self._directory}`",
            causes=[cause],
            hint="see whether its disk is full and whether you may write to it",
        )

    def _warn(self, message: str) -> None:
        warnings.warn(f"index `{self._directory}`: {message}", BrokenIndexWarning, stacklevel=3)


def _is_broken(error: Exception) -> bool:
    if isinstance(error, RefusedRow):
        return True
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & _PRIMARY_CODE in _BROKEN
