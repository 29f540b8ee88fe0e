"""The form of an archive: which members there are, in which order, and how each is framed.

    head.json                     what the archive is, and how much is in it
    cas/sha256/ab/<64 digits>     content, sorted by digest
    results.jsonl                 results, a line for each, sorted by key
    last.jsonl                    the newest document under each task name, a line for each, sorted

Everything in it follows from the cache alone: no times, no owners, no order of directories.
"""

from __future__ import annotations

import json
import re
import tarfile
from dataclasses import asdict, dataclass
from typing import Protocol, Self

from maxbuild.engine.digest import Digest

SCHEMA = "maxbuild.cache.v1"
HEAD, RESULTS, LAST = "head.json", "results.jsonl", "last.jsonl"

BLOCK = tarfile.BLOCKSIZE
PIECE = 1 << 20
"""How much is in memory at once, in bytes."""
END = bytes(2 * BLOCK)

_MOST_HEAD = 4096
_MODE = 0o644
_CONTENT = re.compile(r"cas/sha256/([0-9a-f]{2})/(\1[0-9a-f]{62})")


class BadArchive(ValueError):
    """Something is no archive, or one that is damaged or was made up."""


class Source(Protocol):
    """Where an archive is read from."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, none only at the end."""


class Sink(Protocol):
    """Where an archive is written to."""

    def write(self, content: bytes, /) -> object:
        """Take all of `content`."""


@dataclass(frozen=True, slots=True)
class Head:
    """What an archive says of itself: how many contents it has and their bytes, and what its two lists hold."""

    contents: int
    size: int
    results: int
    results_digest: Digest
    last: int
    last_digest: Digest

    def spell(self) -> bytes:
        """Return the member's content."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, sort_keys=True).encode() + b"\n"

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Read what `spell` wrote; BadArchive for anything else."""
        try:
            value = json.loads(content)
        except (ValueError, RecursionError):
            raise BadArchive("its head is no JSON") from None
        schema = value.pop("schema", None) if isinstance(value, dict) else None
        if schema != SCHEMA:
            raise BadArchive(f"its schema is {json.dumps(schema)}, and this version reads `{SCHEMA}`")
        try:
            head = cls(**value)
            Digest(head.results_digest)
            Digest(head.last_digest)
        except (TypeError, ValueError):
            raise BadArchive("its head does not say what is in it") from None
        numbers = (head.contents, head.size, head.results, head.last)
        if not all(type(number) is int and number >= 0 for number in numbers) or head.spell() != content:
            raise BadArchive("its head does not say what is in it")
        return head


@dataclass(frozen=True, slots=True)
class Member:
    """One member: its name, and how many bytes it has."""

    name: str
    size: int

    @property
    def padding(self) -> int:
        """Return how many bytes follow the content, up to a whole block."""
        return -self.size % BLOCK

    def digest(self) -> Digest | None:
        """Return which content this is, None where it is none."""
        match = _CONTENT.fullmatch(self.name)
        return Digest(match[2]) if match else None


def content_name(digest: Digest) -> str:
    """Return the name of the member that holds the content `digest`."""
    return f"cas/sha256/{digest[:2]}/{digest}"


def frame(member: Member) -> bytes:
    """Return the block that goes before the content of `member`; sizes from 8 GiB on are spelled as GNU tar does."""
    entry = tarfile.TarInfo(member.name)
    entry.size, entry.mode = member.size, _MODE
    return entry.tobuf(tarfile.GNU_FORMAT)


class Reader:
    """Reads members one after the other, each to its end before the next."""

    def __init__(self, source: Source) -> None:
        """Read from where `source` stands."""
        self._source = source
        self._left = 0
        self._padding = 0

    def head(self) -> Head:
        """Return the head, which must be the first member."""
        member = self.next()
        if member is None or member.name != HEAD or member.size > _MOST_HEAD:
            raise BadArchive(f"it does not begin with `{HEAD}`")
        return Head.parse(b"".join(iter(self.piece, b"")))

    def next(self) -> Member | None:
        """Return the next member, None at the end of the archive, which must be that of the file too."""
        if self._left:
            raise AssertionError("a member is read to its end before the next")
        if any(self._exactly(self._padding)):
            raise BadArchive("between its members is more than nothing")
        block = self._exactly(BLOCK)
        if not any(block):
            self._expect_end()
            return None
        try:
            entry = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        except (tarfile.HeaderError, UnicodeDecodeError) as error:
            raise BadArchive(f"it is no tar, or a damaged one: {error}") from None
        member = Member(entry.name, entry.size)
        if entry.type != tarfile.REGTYPE or member.size < 0 or frame(member) != block:
            raise BadArchive(f"`{entry.name}` is no plain file as an export writes it")
        self._left, self._padding = member.size, member.padding
        return member

    def piece(self) -> bytes:
        """Return the next bytes of the member, none at its end."""
        content = self._exactly(min(PIECE, self._left))
        self._left -= len(content)
        return content

    def _expect_end(self) -> None:
        """Make sure that nothing follows but the second empty block, and what other tars fill a file up with."""
        if any(self._exactly(BLOCK)):
            raise BadArchive("its end is followed by something")
        while rest := self._source.read(PIECE):
            if any(rest):
                raise BadArchive("its end is followed by something")

    def _exactly(self, size: int) -> bytes:
        pieces = []
        while size > 0:
            piece = self._source.read(size)
            if not piece:
                raise BadArchive("it ends too early")
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)


def ignore_progress(_done: int, _total: int | None) -> None:
    """Tell nobody."""
