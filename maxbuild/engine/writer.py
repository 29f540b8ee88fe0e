"""Writing the index: diskcache, opened so that no row can make it unpickle, leave its folder, or evict anything.

Stock diskcache unpickles what a row says it should, follows a row's file name anywhere, and evicts at 1 GiB
(CVE-2025-69872). Here a row is bytes under text, inside the database, or it is refused.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

import diskcache
from diskcache.core import DBNAME, DEFAULT_SETTINGS, METADATA, MODE_RAW

from maxbuild.engine.rows import RefusedRow, identify

_SETTINGS: dict[str, Any] = {
    **{name: value for name, value in DEFAULT_SETTINGS.items() if name.startswith("sqlite_")},
    "eviction_policy": "none",
    "cull_limit": 0,
    "statistics": 0,
    "tag_index": 0,
}


_OURS = re.compile(r"(table|index|trigger) (Settings|Cache|sqlite_autoindex|sqlite_stat1)(_\w+)?")
"""What diskcache puts into a schema; a view would answer for it, and another trigger would run with each change."""


class Writer:
    """The database in one folder, open for writing; made where missing.

    Every method raises sqlite3.Error, the first there was, or TimeoutError when others keep the database locked.
    """

    def __init__(self, directory: Path) -> None:
        """Open the database; RefusedRow when it holds settings or a schema that is not ours."""
        _check_settings(directory / DBNAME)
        self._cache = diskcache.Cache(str(directory), disk=BytesDisk, **_SETTINGS)
        self.identity = identify(directory / DBNAME)

    def set(self, key: str, content: bytes) -> None:
        """Put `content` under `key`."""
        self._change(lambda cache: cache.set(key, content))

    def delete(self, key: str) -> None:
        """Remove the row under `key`; nothing happens where there is none."""
        self._change(lambda cache: cache.delete(key))

    def close(self) -> None:
        """Close this thread's connection; the next use opens another."""
        self._cache.close()

    def _change(self, operation: Callable[[Any], object]) -> None:
        try:
            operation(self._cache)
        except (diskcache.Timeout, sqlite3.Error) as error:
            raise _origin(error) from error


def _origin(error: BaseException) -> BaseException:
    """Return the first error: diskcache hides it behind Timeout, or behind a rollback that had nothing left to undo."""
    while isinstance(error.__context__, sqlite3.Error):
        error = error.__context__
    if isinstance(error, sqlite3.Error) and error.sqlite_errorcode & 0xFF not in (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
    ):
        return error
    return TimeoutError("it stayed locked, or may not be written")


def _check_settings(database: Path) -> None:
    """Refuse settings diskcache would obey that are not ours: each becomes an attribute, or text of a PRAGMA."""
    if not database.exists():
        return
    with closing(sqlite3.connect(database)) as connection:
        schema = [f"{kind} {name}" for kind, name in connection.execute("SELECT type, name FROM sqlite_master")]
        for name in schema:
            if not _OURS.fullmatch(name):
                raise RefusedRow(f"unknown {name}")
        if "table Settings" not in schema:
            return
        for name, value in connection.execute("SELECT key, value FROM Settings"):
            known = name in DEFAULT_SETTINGS or name in METADATA
            if not known or not (isinstance(value, int) or value == _SETTINGS.get(name)):
                raise RefusedRow(f"unknown setting {name!r}")


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
