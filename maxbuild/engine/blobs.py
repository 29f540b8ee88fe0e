"""Blobs: content by digest, either a file of the store's own or a reference to a file that lies elsewhere.

A blob that is named holds what its name says: a file of ours that does not is put into quarantine, a reference that
does not is no blob. Files of ours are read-only and appear under their name whole or not at all.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from maxbuild.engine import disk
from maxbuild.engine.canonical import JSON
from maxbuild.engine.digest import Digest
from maxbuild.engine.index import Index
from maxbuild.engine.memo import Memo, Stamp, stamp_row

_MOST_REFERENCES = 4


class Blobs:
    """The content of one store."""

    def __init__(self, root: Path, index: Index, memo: Memo, *, read_only: bool = False) -> None:
        """Keep files under `root/cas` and `root/quarantine`, references in `index`.

        read_only: nothing is set aside; what is damaged counts as missing.
        """
        self._read_only = read_only
        self._content = root / "cas" / "sha256"
        self._prefix = f"{self._content}/"
        self._quarantine = root / "quarantine"
        self._index = index
        self._memo = memo
        self._lasting: set[str] = set()
        """The folders of blobs whose names are on the disk for sure."""

    def path(self, digest: Digest) -> Path | None:
        """Return where the content `digest` lies, or None where it is missing or damaged."""
        own = self._own(digest)
        if self._look_at(own, digest):
            return Path(own)
        return next((path for path in self._references(digest) if self._holds(path, digest)), None)

    def holds(self, digest: Digest, stamp: JSON = None) -> bool:
        """Return whether the content `digest` is there and right, as `path` does, but without making a Path of it.

        stamp: what `stamp` said of it once, which spares asking the memo.
        """
        return self._look_at(self._own(digest), digest, stamp) or self.path(digest) is not None

    def stamp(self, digest: Digest) -> list[int] | None:
        """Return what the file with the content `digest` is now, None where there is none of the store's own."""
        try:
            return list(Stamp.of_plain(self._own(digest)).of_sealed)
        except OSError:
            return None

    def rows(self, digest: str) -> tuple[str, ...]:
        """Return the keys of the rows that `path` will ask the index for, as far as can be told."""
        return (stamp_row(self._own(digest)),)

    def is_quarantined(self, digest: Digest) -> bool:
        """Return whether content under this name was found damaged and has not been made again."""
        return os.path.lexists(self._quarantine / digest)

    def publish(self, path: Path, copies: Path, digest: Digest) -> None:
        """Move the file `path`, whose content is `digest`, into the store; StoreError when the disk refuses.

        A file that has further names is copied first (into the folder `copies`), since who knows them could write it.
        """
        try:
            shared = path.stat().st_nlink > 1
        except OSError as error:
            raise disk.storage_error(error, "read", path) from error
        present = self.path(digest)
        if present is None or not (shared or present == Path(self._own(digest))):
            source = self._copy(path, copies) if shared else path
            self._insert(source, digest)
            disk.unlink(source)
        disk.unlink(path)

    def adopt(self, real: Path, digest: Digest) -> None:
        """Take the file with the real path `real`, whose content is `digest`, as content without copying it."""
        if real != Path(self._own(digest)):
            known = self._references(digest)
            if real not in known:
                paths = [os.fspath(path) for path in (real, *known)][:_MOST_REFERENCES]
                self._index.set_json(_row(digest), paths)

    def own_path(self, digest: Digest) -> Path:
        """Return where the content `digest` lies if the store has it for its own."""
        return Path(self._own(digest))

    def remove(self, path: Path) -> None:
        """Remove a file of the store's own, and what is noted of it; for collectors alone."""
        disk.unlink(path)
        self._index.delete(stamp_row(path))

    def set_aside(self, digest: Digest) -> None:
        """Put the file of our own under `digest`, which is damaged, into quarantine."""
        self._set_aside(self.own_path(digest), digest)

    def is_believed(self, path: Path, digest: Digest) -> bool:
        """Return whether `path`, outside of the store, is taken for the content `digest` without being read."""
        return self._memo.known(path, sealed=True) == digest

    def doubt(self, path: Path) -> None:
        """Forget the digest of the file `path`, which is read again before it is believed."""
        self._index.delete(stamp_row(path))

    def owns(self, path: Path) -> bool:
        """Return whether `path` is a file of the store's own."""
        return path.is_relative_to(self._content)

    def files(self) -> Iterator[Path]:
        """Yield every file of the store's own."""
        yield from self._content.glob("??/*")

    def references(self, digest: Digest) -> list[Path]:
        """Return where the content `digest` was said to lie outside of the store, whether or not it is still there."""
        return self._references(digest)

    def quarantined(self) -> Iterator[Path]:
        """Yield every damaged file."""
        yield from self._quarantine.glob("*")

    def _own(self, digest: str) -> str:
        return f"{self._prefix}{digest[:2]}/{digest}"

    def _references(self, digest: Digest) -> list[Path]:
        match self._index.get_json(_row(digest)):
            case list() as paths:
                return [Path(path) for path in paths if isinstance(path, str)]
        return []

    def _look_at(self, own: str, digest: Digest, known: JSON = None) -> bool:
        """Return whether a file of the store's own holds `digest`; one that holds something else is set aside.

        Whether it is there is asked once: what another builder puts there a moment later is no damage.
        """
        try:
            stamp = Stamp.of_plain(own)
            if (known is not None and known == list(stamp.of_sealed)) or self._memo.holds(own, digest, stamp):
                return True
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno != errno.EIO and self.stamp(digest) is not None:  # what the disk cannot give back is damaged
                raise disk.storage_error(error, "read", Path(own)) from error
        if not self._read_only:
            self._set_aside(Path(own), digest)
        return False

    def _holds(self, path: str | Path, digest: Digest) -> bool:
        try:
            return self._memo.holds(path, digest)
        except OSError:
            return False

    def _insert(self, path: Path, digest: Digest) -> None:
        """Publish `path`: hashed already, then to the disk, then linked, then the link to the disk."""
        own = Path(self._own(digest))
        disk.seal_file(path)
        if own.parent.name not in self._lasting:  # who made it may have died before it was on the disk
            disk.make_directory(own.parent)
            disk.sync_directory(own.parent.parent)
            self._lasting.add(own.parent.name)
        if not disk.link(path, own) and not self._look_at(str(own), digest):  # else another builder was first
            disk.link(path, own)
        disk.sync_directory(own.parent)
        self._memo.remember(own, Stamp.of(own), digest)
        if self.is_quarantined(digest):
            _move(self._quarantine / digest, self._quarantine / f"{digest}.replaced")

    def _copy(self, path: Path, copies: Path) -> Path:
        copy = copies / f"copy-{os.urandom(8).hex()}"
        disk.copy_file(path, copy)
        return copy

    def _set_aside(self, path: Path, digest: Digest) -> None:
        _move(path, self._quarantine / digest)


def _move(source: Path, destination: Path) -> None:
    """Rename `source` over `destination`; where one of them is a directory, what was there gets another name."""
    if os.path.lexists(destination) and (destination.is_dir() or source.is_dir()):
        disk.rename(destination, destination.with_name(f"{destination.name}.{os.urandom(4).hex()}"))
    disk.rename(source, destination)


def _row(digest: Digest) -> str:
    return f"reference:{digest}"
