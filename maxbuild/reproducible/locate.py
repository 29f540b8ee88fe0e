"""Where two files differ first, in the terms of what they hold: a member of a zip, an ELF section, a tensor, a byte."""

from __future__ import annotations

import mmap
import zipfile
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import TypeAlias

from maxbuild.errors import WeightsError
from maxbuild.inspect.elf import NotElf, read_elf
from maxbuild.weights.safetensors import read_header

Content: TypeAlias = "bytes | mmap.mmap"

_STRIDE = 1 << 20
_BEFORE, _EXCERPT = 8, 32
"""Bytes that an excerpt shows before the difference, and in all."""

# Sections that people can read: a path in one of these explains more than the addresses that moved because of it.
_READABLE = (".rodata", ".dynstr", ".comment", ".strtab")

_ARCHIVE = "the members are equal, and what the archive says of them is not"


@dataclass(frozen=True, slots=True)
class Place:
    """Where two files differ first.

    `member` is the name inside a zip; `part` names what lies there (an ELF section, a tensor); `offset` counts from the
    start of the section, else of the member, else of the file. `excerpts` are the bytes from `start` on, of the first
    file and the second. `note` says what bytes cannot.
    """

    offset: int | None = None
    start: int = 0
    excerpts: tuple[bytes, bytes] = (b"", b"")
    member: str | None = None
    part: str | None = None
    note: str | None = None


def first_difference(first: Path, second: Path) -> Place | None:
    """Return where the files at two paths differ first, None where they are equal byte for byte."""
    if first.samefile(second):
        return None
    with ExitStack() as opened:
        before, after = (_content(path, opened) for path in (first, second))
        if (offset := _offset(before, after)) is None:
            return None
        if zipfile.is_zipfile(first) and zipfile.is_zipfile(second):
            with suppress(zipfile.BadZipFile, NotImplementedError):  # compared as any file then
                return _in_zips(first, second) or replace(_at(offset, before, after), note=_ARCHIVE)
        return replace(_at(offset, before, after), part=_tensor_at(first, offset))


def _content(path: Path, opened: ExitStack) -> Content:
    file = opened.enter_context(path.open("rb"))
    if path.stat().st_size == 0:  # there is no such map
        return b""
    return opened.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _offset(first: Content, second: Content) -> int | None:
    """Return the offset of the first byte that is another, or that one of the two has not; None without one."""
    shorter = min(len(first), len(second))
    for start in range(0, shorter, _STRIDE):
        stop = min(start + _STRIDE, shorter)
        before, after = first[start:stop], second[start:stop]
        if before != after:
            return start + next(
                index for index, pair in enumerate(zip(before, after, strict=True)) if len(set(pair)) > 1
            )
    return None if len(first) == len(second) else shorter


def _at(offset: int, first: Content, second: Content) -> Place:
    start = max(offset - _BEFORE, 0)
    sizes = f"it has {len(first)} bytes in the first and {len(second)} in the second"
    return Place(
        offset,
        start,
        (first[start : start + _EXCERPT], second[start : start + _EXCERPT]),
        note=None if len(first) == len(second) else sizes,
    )


def _inside(first: bytes, second: bytes, offset: int) -> Place:
    """Return the place in two contents that differ at `offset`: in a section, where both are ELF files."""
    sections, others = _sections(first), _sections(second)
    differing = {
        name: (before, after)
        for name, before in sections.items()
        if (after := others.get(name)) is not None and _offset(before, after) is not None
    }
    name = next((name for name in (*_READABLE, *differing) if name in differing), None)
    if name is None:
        return _at(offset, first, second)
    before, after = differing[name]
    where = _offset(before, after)
    assert where is not None
    more = ", ".join(f"`{other}`" for other in differing if other != name)
    place = replace(_at(where, before, after), part=f"section `{name}`")
    return replace(place, note="; ".join(filter(None, (place.note, f"so do {more}" if more else None))) or None)


def _in_zips(first: Path, second: Path) -> Place | None:
    """Return the first member that two archives have not in common, None where the members are equal."""
    with zipfile.ZipFile(first) as before, zipfile.ZipFile(second) as after:
        for here, there in zip_longest(before.namelist(), after.namelist()):
            if here != there:
                return _of_names(here, there, set(before.namelist()), set(after.namelist()))
            contents = before.read(here), after.read(there)
            if (offset := _offset(*contents)) is not None:
                return replace(_inside(*contents, offset), member=here)
    return None


def _of_names(here: str | None, there: str | None, first: set[str], second: set[str]) -> Place:
    if here is not None and here not in second:
        return Place(member=here, note="it is in the first alone")
    if there is not None and there not in first:
        return Place(member=there, note="it is in the second alone")
    return Place(member=here or there, note="it comes at another place in the order of the members")


def _sections(content: bytes) -> Mapping[str, bytes]:
    """Return the sections of an ELF file by name, in their order; empty for anything else."""
    try:
        return {section.name: section.content for section in read_elf(content).sections}
    except NotElf:
        return {}


def _tensor_at(path: Path, offset: int) -> str | None:
    """Return which tensor of a safetensors file lies at `offset`, None where none does."""
    if path.suffix != ".safetensors":
        return None
    try:
        tensors = read_header(path)
    except WeightsError:
        return None
    return next((f"tensor `{name}`" for name, found in tensors.items() if found.start <= offset < found.end), None)
