"""Packing: from a store to an archive, with no more than a piece of one file in memory, hashed as it passes."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO

from maxbuild.engine import disk
from maxbuild.engine.archive.form import (
    END,
    HEAD,
    LAST,
    PIECE,
    RESULTS,
    Head,
    Member,
    Sink,
    content_name,
    frame,
    ignore_progress,
)
from maxbuild.engine.archive.selection import Selection
from maxbuild.engine.digest import Digest
from maxbuild.engine.store import Store
from maxbuild.engine.task import Progress
from maxbuild.errors import StoreError

_LINES_IN_MEMORY = 16 << 20


@dataclass(frozen=True, slots=True)
class Packed:
    """What went into an archive; `size` is the bytes of its contents."""

    results: int
    contents: int
    size: int


@dataclass(frozen=True, slots=True)
class _Load:
    """What goes into an archive: its head, the files of its contents with their sizes, and its lines."""

    head: Head
    files: Sequence[tuple[Digest, Path, int]]
    results: IO[bytes]
    last: IO[bytes]


def pack_file(store: Store, selection: Selection, path: Path, progress: Progress = ignore_progress) -> Packed:
    """Write an archive to `path`, which changes only once all is written; StoreError when something cannot be."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with _loaded(store, selection) as load:
        try:
            with fresh.open("xb") as stream:
                _write_all(load, stream, progress)
            disk.sync_file(fresh)
            disk.rename(fresh, path)
            disk.sync_directory(path.absolute().parent)
        except OSError as error:
            raise _not_written(path, error, load.head.size) from error
        finally:
            disk.unlink(fresh)
    return _packed(load)


def pack(store: Store, selection: Selection, sink: Sink, progress: Progress = ignore_progress) -> Packed:
    """Write an archive of what `selection` names and is whole; StoreError where content is gone or damaged."""
    with _loaded(store, selection) as load:
        _write_all(load, sink, progress)
    return _packed(load)


@contextmanager
def _loaded(store: Store, selection: Selection) -> Iterator[_Load]:
    """Lend what goes into an archive; collectors take nothing of it."""
    with SpooledTemporaryFile(_LINES_IN_MEMORY) as results, SpooledTemporaryFile(_LINES_IN_MEMORY) as last:
        contents: set[Digest] = set()
        records = _records(store, selection, contents)
        lists = _spool(records, results), _spool(_newest(store, selection), last)
        files = [(digest, *_file(store, digest)) for digest in sorted(contents)]
        size = sum(size for _, _, size in files)
        yield _Load(Head(len(files), size, *lists[0], *lists[1]), files, results, last)


def _spool(values: Iterable[Mapping[str, object]], file: IO[bytes]) -> tuple[int, Digest]:
    """Write one line for each value, and return how many those are and the digest of all."""
    count, hashed = 0, hashlib.sha256()
    for value in values:
        line = json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n"
        hashed.update(line)
        file.write(line)
        count += 1
    return count, Digest(hashed.hexdigest())


def _records(store: Store, selection: Selection, contents: set[Digest]) -> Iterator[Mapping[str, object]]:
    """Yield the results that are whole, and note the content they name; no collector takes them any more."""
    for key in selection.keys:
        with store.steady():
            record = store.find_result(key)
            if record is not None:
                store.claim(key)
        if record is not None:
            contents.update(record.result.outputs.values())
            yield {"key": record.key, **record.to_json()}


def _newest(store: Store, selection: Selection) -> Iterator[Mapping[str, object]]:
    for scope, name in selection.names:
        last = store.last(scope, name)
        if last is not None:
            yield {"scope": scope, "name": name, **last.to_json()}


def _file(store: Store, digest: Digest) -> tuple[Path, int]:
    path = store.blob_path(digest)
    if path is None:
        raise _not_right(digest)
    return path, path.stat().st_size


def _write_all(load: _Load, sink: Sink, progress: Progress) -> None:
    head = load.head.spell()
    _write_member(sink, Member(HEAD, len(head)), BytesIO(head))
    done = 0
    for digest, path, size in load.files:
        with path.open("rb") as stream:
            found = _write_member(sink, Member(content_name(digest), size), stream)
        if found != digest:
            raise _not_right(digest)
        done += size
        progress(done, load.head.size)
    for name, lines in ((RESULTS, load.results), (LAST, load.last)):
        size = lines.tell()
        lines.seek(0)
        _write_member(sink, Member(name, size), lines)
    sink.write(END)


def _write_member(sink: Sink, member: Member, stream: IO[bytes]) -> str:
    """Write one member, of as many bytes as it says, and return the sha256 of what was there to be written."""
    sink.write(frame(member))
    hashed = hashlib.sha256()
    left = member.size
    while left and (piece := stream.read(min(PIECE, left))):
        hashed.update(piece)
        sink.write(piece)
        left -= len(piece)
    sink.write(bytes(member.padding))
    return "" if left else hashed.hexdigest()


def _packed(load: _Load) -> Packed:
    return Packed(load.head.results, load.head.contents, load.head.size)


def _not_right(digest: Digest) -> StoreError:
    return StoreError(
        f"content {digest} is gone or damaged, and nothing was exported",
        hint="`maxbuild cache verify` sets aside what is damaged; export again after that",
    )


def _not_written(path: Path, error: OSError, need: int) -> StoreError:
    causes = [error.strerror or str(error)]
    if disk.is_full(error):
        causes.append(f"the archive needs {need} bytes and a little more")
    return StoreError(f"could not write `{path}`", causes=causes, hint="choose another place, or `-` for stdout")
