"""Accesses: what a step did to a path, as whoever watched it saw it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self


class How(StrEnum):
    """What was done to a path."""

    READ = "read"
    LISTED = "listed"
    EXECUTED = "executed"
    WROTE = "wrote"


@dataclass(frozen=True, slots=True)
class Access:
    """One path that was touched, or (unless `found`) that was wanted and not there.

    `path` is absolute, as it was asked for; `real` is where it led, links resolved; `process` is the program.
    """

    how: How
    path: str
    real: str
    process: str
    found: bool

    def to_line(self) -> bytes:
        """Return the access as a line of JSON."""
        return json.dumps(astuple(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """Make the access that `to_line` returned; ValueError when `line` is none, as the last of a killed process."""
        match json.loads(line):
            case [str(how), str(path), str(real), str(process), bool(found)]:
                return cls(How(how), path, real, process, found)
        raise ValueError("not an access")


def read_lines(path: Path) -> Iterator[Access]:
    """Return the accesses noted in the file `path`, as far as they are whole."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        try:
            yield Access.from_line(line)
        except ValueError:
            continue
