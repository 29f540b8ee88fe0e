"""Rows read from the index's database directly: many in one query, and never by a connection that could write.

A row is bytes under text inside the database, or it is refused: no mode is obeyed, no file name followed.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeAlias

_COLUMNS = "key, raw, mode, filename, value"
_MODE_RAW = 1  # diskcache's name for a value that is in the database as it is; importing it costs 30 ms
_BATCH = 1000
_PATIENCE = 60.0


FileId: TypeAlias = tuple[int, int]
"""Which file something is, whatever its name: device and inode."""


class RefusedRow(ValueError):
    """A row is something other than bytes under text inside the database."""


class Reader:
    """Reads the database at `path`, with a connection for each thread. Where there is none yet, there are no rows.

    Every method raises sqlite3.Error when the database cannot be read.
    """

    def __init__(self, path: Path) -> None:
        """Open nothing before it is needed."""
        self._path = path
        self._local = threading.local()

    def rows(self, keys: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Yield the rows under `keys` that there are."""
        connection = self._connection()
        if connection is None:
            return
        remaining = iter(keys)
        while batch := list(islice(remaining, _BATCH)):
            places = ",".join("?" * len(batch))
            query = f"SELECT {_COLUMNS} FROM Cache WHERE key IN ({places})"  # noqa: S608 - nothing but `?`
            yield from self._sound(connection.execute(query, batch))

    def rows_from(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        """Yield the rows whose keys begin with `prefix`."""
        connection = self._connection()
        if connection is not None:
            query = f"SELECT {_COLUMNS} FROM Cache WHERE key >= ? AND key < ?"  # noqa: S608 - constants
            yield from self._sound(connection.execute(query, _range(prefix)))

    def written_from(self, prefix: str) -> list[tuple[str, float]]:
        """Return the keys that begin with `prefix`, sorted, with the time each was written."""
        connection = self._connection()
        if connection is None:
            return []
        query = (
            "SELECT key, store_time FROM Cache"
            " WHERE raw = 1 AND typeof(key) = 'text' AND key >= ? AND key < ? ORDER BY key"
        )
        return [(key, float(written or 0)) for key, written in connection.execute(query, _range(prefix))]

    def refused(self) -> list[str]:
        """Return what was wrong with the rows this thread's last question refused, and forget it."""
        refusals: list[str] = getattr(self._local, "refusals", [])
        self._local.refusals = []
        return refusals

    def identity(self) -> FileId | None:
        """Return which file this thread's newest connection reads."""
        return getattr(self._local, "identity", None)

    def close(self) -> None:
        """Close this thread's connection; the next question opens another."""
        connection = getattr(self._local, "connection", None)
        self._local.connection = None
        if connection is not None:
            connection.close()

    def _sound(self, rows: Iterable[tuple[object, object, object, object, object]]) -> Iterator[tuple[str, bytes]]:
        for key, raw, mode, filename, value in rows:
            if type(key) is not str or raw != 1:
                self._refuse("a row's key is not plain text")
            elif mode != _MODE_RAW or filename is not None or type(value) is not bytes:
                self._refuse("a row's value is not plain bytes")
            else:
                yield key, value

    def _refuse(self, why: str) -> None:
        self._local.refusals = [*getattr(self._local, "refusals", []), why]

    def _connection(self) -> sqlite3.Connection | None:
        # A connection must not be used in a forked child: SQLite would take the parent's locks for its own.
        known: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if known is not None and self._local.process == os.getpid():
            return known
        if not self._path.exists() or self._path.stat().st_size == 0:
            return None
        self._local.identity = identify(self._path)
        connection = _connect(self._path)
        self._local.connection, self._local.process = connection, os.getpid()
        return connection


def identify(path: Path) -> FileId | None:
    """Return which file `path` is; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _connect(path: Path) -> sqlite3.Connection:
    """Open the database at `path` for reading; where not even its side files can be made, as one that never changes."""
    place = f"file:{_quoted(os.fspath(path))}"
    try:
        connection = _opened(f"{place}?mode=ro")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise
        connection = _opened(f"{place}?immutable=1")
    return connection


def _quoted(path: str) -> str:
    """Return `path` for a URI of SQLite's, in which three characters mean something; urllib takes as long as SQLite."""
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _opened(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_PATIENCE)
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("SELECT 1 FROM sqlite_master").fetchall()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _range(prefix: str) -> tuple[str, str]:
    return prefix, prefix + "\U0010ffff"
