"""The index: small JSON rows by key. It holds what can be made again: one that is broken is set aside and begun anew.

Reading asks the database itself, many rows at a time; `writer` makes it and writes it, and is imported for the first
row that is written. So what finds nothing to do writes nothing, and an index that may not be written can be read.
"""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import threading
import warnings
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from maxbuild.engine import disk
from maxbuild.engine.canonical import JSON
from maxbuild.engine.locks import Lock, wait_lock
from maxbuild.engine.rows import FileId, Reader, RefusedRow, identify
from maxbuild.errors import StoreError

if TYPE_CHECKING:
    from maxbuild.engine.writer import Writer

Answer = TypeVar("Answer")

DATABASE = "cache.db"
"""The name that diskcache gives to the database's file in the index's folder."""

_TRIES = 3
_PAGES = 4 * 4096
"""What a transaction may need beside its row: whole pages of the table, of two orders, and of the counters."""
_FILES = (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", f"{DATABASE}-journal")
_BROKEN = frozenset(
    {
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_CONSTRAINT,  # no row of ours meets one: a trigger or an index of somebody's does
    }
)
_decode = json.JSONDecoder().raw_decode
_CHECKSUM = 8  # hexadecimal digits, in front of each row
_PRIMARY_CODE = 0xFF  # sqlite's extended codes keep the primary one in the low byte
_NO_ROOM = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_IOERR_WRITE: errno.EFBIG,  # any refusal to write but ENOSPC; a limit on file sizes is the likely one
    sqlite3.SQLITE_IOERR_SHMSIZE: errno.ENOSPC,
}


class BrokenIndexWarning(UserWarning):
    """The index, or a row of it, is not what this program wrote; it counts as absent."""


class Index:
    """Rows by key, shared by threads and by processes."""

    def __init__(self, directory: Path, *, read_only: bool = False) -> None:
        """Use the index in `directory`, which is made where missing; StoreError when it cannot be.

        read_only: rows are only read; those to be written are forgotten.
        """
        if os.path.expandvars(directory) != str(directory):  # diskcache would expand it too
            raise StoreError(f"the store's path holds a variable: `{directory}`", hint="choose a path without `$`")
        self._directory = directory
        self._read_only = read_only
        self._mutex = threading.Lock()
        self._ahead: dict[str, JSON] = {}
        self._reader = Reader(directory / DATABASE)
        self._writer: Writer | None = None
        self._beginnings = 0
        if not read_only:
            disk.make_directory(directory)
            disk.restrict_directory(directory)
            self._check_files()

    def read_ahead(self, keys: Iterable[str]) -> dict[str, JSON]:
        """Read the rows under `keys` in few queries, for the next time each is asked for, and return them too."""
        wanted = list(dict.fromkeys(keys))
        return self._keep(self._reading(lambda reader: list(reader.rows(wanted))))

    def rows(self, prefix: str) -> dict[str, JSON]:
        """Return the rows whose keys begin with `prefix` as they are now; null for one that is no JSON."""
        rows = self._reading(lambda reader: list(reader.rows_from(prefix)))
        return {key: self._parsed(key, content) for key, content in rows}

    def get_json(self, key: str) -> JSON:
        """Return the JSON value under `key`; null where there is none, or where the row is refused or no JSON."""
        if key in self._ahead:
            return self._ahead.pop(key, None)  # good for once: who asks again wants it anew
        for _, content in self._reading(lambda reader: list(reader.rows([key]))):
            return self._parsed(key, content)
        return None

    def set_json(self, key: str, value: object) -> None:
        """Put `value`, which JSON can spell, under `key`."""
        content = _sealed(key, json.dumps(value, separators=(",", ":")).encode())
        self._write(key, lambda writer: writer.set(key, content), len(content))

    def delete(self, key: str) -> None:
        """Remove the row under `key`; nothing happens where there is none."""
        self._write(key, lambda writer: writer.delete(key), 0)

    def keys(self, prefix: str) -> list[str]:
        """Return every text key that begins with `prefix`, sorted."""
        return [key for key, _ in self._reading(lambda reader: reader.written_from(prefix))]

    def written(self, prefix: str) -> dict[str, float]:
        """Return every text key that begins with `prefix`, with the time it was written, in seconds since 1970."""
        return dict(self._reading(lambda reader: reader.written_from(prefix)))

    def size(self) -> int:
        """Return the bytes the database takes."""
        files = (self._directory / f"{DATABASE}{suffix}" for suffix in ("", "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def close(self) -> None:
        """Close this thread's connections; the next use opens others."""
        self._reader.close()
        if self._writer is not None:
            self._writer.close()

    def _keep(self, rows: Iterable[tuple[str, bytes]]) -> dict[str, JSON]:
        parsed = {key: self._parsed(key, content) for key, content in rows}
        self._ahead.update(parsed)
        return parsed

    def _parsed(self, key: str, content: bytes) -> JSON:
        try:
            text = _unsealed(key, content).decode()
            value, end = _decode(text)  # `json.loads` takes half as long again to look for blanks, which no row has
        except ValueError:
            end = -1
        if end < 0 or end < len(text):
            self._warn("a row is damaged and counts as absent")
            return None
        return cast("JSON", value)

    def _reading(self, operation: Callable[[Reader], Answer]) -> Answer:
        reader = self._reader
        for attempt in range(_TRIES):
            beginning = self._beginnings
            try:
                answer = operation(reader)
                break
            except sqlite3.Error as error:
                self._mend(error, attempt, beginning)
        for refusal in reader.refused():
            self._warn(f"a row was refused and counts as absent: {refusal}")
        return answer

    def _mend(self, error: sqlite3.Error, attempt: int, beginning: int) -> None:
        """Make the index readable after `error`, for another attempt; StoreError where that cannot be."""
        moved = attempt == 0 and _code(error) & _PRIMARY_CODE == sqlite3.SQLITE_CANTOPEN  # just now, maybe
        if not (moved or _is_broken(error)) or self._read_only or attempt == _TRIES - 1:
            raise self._unusable(error) from error
        broken = self._reader.identity()
        self._reader.close()
        with self._mutex:
            if self._beginnings != beginning:  # another thread has begun anew
                return
            if attempt:
                self._start_empty(error, broken)
            elif self._writer is None or self._writer.identity != identify(self._directory / DATABASE):
                self._writer = self._open()
            else:
                self._alone().release()  # another process may be half-way through making it

    def _write(self, key: str, operation: Callable[[Writer], None], size: int) -> None:
        """Carry out one transaction on a row of `size` bytes."""
        self._ahead.pop(key, None)
        if self._read_only:
            return
        need = size + _PAGES
        with disk.effect("write to index", self._directory, need):
            writer = self._opened()
            try:
                operation(writer)
            except (sqlite3.Error, TimeoutError) as error:
                if not _is_broken(error):
                    raise self._unusable(error, need) from error
                with self._mutex:
                    if self._writer is writer:  # else another thread has replaced it already
                        self._start_empty(error, writer.identity)
                operation(self._opened())

    def _opened(self) -> Writer:
        with self._mutex:
            if self._writer is None:
                self._writer = self._open()
            return self._writer

    def _start_empty(self, error: Exception, broken: FileId | None) -> None:
        self._reader.close()
        with self._alone():  # until the new one is whole: half of it looks broken to others
            self._set_aside(error, broken)
            self._writer = self._made()
        self._ahead.clear()
        self._beginnings += 1

    def _open(self) -> Writer:
        with self._alone():
            return self._made()

    def _made(self) -> Writer:
        """Open the database for writing, made where missing; only alone."""
        from maxbuild.engine.writer import Writer  # noqa: PLC0415 - what only reads has no need of diskcache

        for last_try in (False, True):
            found = identify(self._directory / DATABASE)
            try:
                with disk.effect("open index", self._directory):
                    return Writer(self._directory)
            except (sqlite3.Error, RefusedRow) as error:
                if last_try or not _is_broken(error):
                    raise self._unusable(error) from error
                self._set_aside(error, found)
        raise AssertionError("unreachable")

    def _check_files(self) -> None:
        """Set the index aside where a part of it is no plain file: SQLite would follow a link, and write there."""
        if self._foreign_files():
            with self._alone():
                if foreign := self._foreign_files():  # else another process was faster
                    self._set_aside(RefusedRow(f"`{foreign[0]}` is no file that may be read and written"), None)

    def _foreign_files(self) -> list[str]:
        paths = (self._directory / name for name in _FILES)
        return [path.name for path in paths if disk.is_foreign(path)]

    def _set_aside(self, error: Exception, broken: FileId | None) -> None:
        """Take the file `broken` out of the way, unless another process has done so already; only alone."""
        if broken is not None and identify(self._directory / DATABASE) != broken:
            return
        aside = self._directory.with_name(f"{self._directory.name}.broken-{os.urandom(4).hex()}")
        self._warn(f"it is set aside as `{aside.name}` and started empty: {error}")
        disk.rename(self._directory, aside)
        disk.make_directory(self._directory)

    def _alone(self) -> Lock:
        """Return the right to make the database or to take it away; no other process has it meanwhile."""
        lock = wait_lock(self._directory.with_name(f"{self._directory.name}.lock"), threading.Event())
        assert lock is not None
        return lock

    def _unusable(self, error: Exception, need: int = _PAGES) -> StoreError:
        code = _code(error)
        room = _NO_ROOM.get(code)
        if room is None and code & _PRIMARY_CODE == sqlite3.SQLITE_CANTOPEN and not disk.has_room(self._directory):
            room = errno.ENOSPC  # its log could not be made: nothing is left for one more file
        if room is not None:
            return disk.storage_error(OSError(room, str(error)), "write to index", self._directory, need)
        return StoreError(
            f"could not use the index `{self._directory}`",
            causes=[str(error)],
            hint="see whether its disk is full and whether you may write to it",
        )

    def _warn(self, message: str) -> None:
        warnings.warn(f"index `{self._directory}`: {message}", BrokenIndexWarning, stacklevel=3)


def _sealed(key: str, content: bytes) -> bytes:
    """Return the row for `content`: SQLite has no checksums, and a flipped bit may well leave good JSON behind."""
    return b"%08x" % _checksum(key, content) + content


def _unsealed(key: str, row: bytes) -> bytes:
    """Return the content of a row; ValueError when that is not what was written under `key`."""
    content = row[_CHECKSUM:]
    if row[:_CHECKSUM] != b"%08x" % _checksum(key, content):
        raise ValueError("not what was written under this key")
    return content


def _checksum(key: str, content: bytes) -> int:
    return zlib.crc32(content, zlib.crc32(key.encode()))


def _is_broken(error: Exception) -> bool:
    if isinstance(error, sqlite3.Error):
        return _code(error) & _PRIMARY_CODE in _BROKEN
    return isinstance(error, RefusedRow)


def _code(error: Exception) -> int:
    """Return SQLite's code for `error`; the module's own errors have none."""
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK))
