"""ELF files as values: header, sections, symbols, notes, and what a library needs of others.

Invariant: all is read before anything is returned, so bytes that are no sound ELF file are told here and nowhere later.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile

_LEAST_BYTES = 64
"""The header alone."""


class NotElf(ValueError):
    """Bytes that are no ELF file, or a damaged one; the text says why."""


@dataclass(frozen=True, slots=True)
class Section:
    """One section; `content` is empty where the file holds none of it."""

    name: str
    address: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Symbol:
    """One symbol, `kind` and `binding` as the standard names them: `FUNC`, `GLOBAL`. `section` counts from 0."""

    name: str
    kind: str
    binding: str
    section: int | None
    address: int
    size: int

    @property
    def is_undefined(self) -> bool:
        """Return whether another file has to define it. What is only looked for (weak) may be nowhere."""
        return self.section is None and self.binding == "GLOBAL"


@dataclass(frozen=True, slots=True)
class Note:
    """One note: who wrote it, of which kind, and what."""

    owner: str
    kind: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Elf:
    """One file; `kind` and `machine` as the standard names them: `DYN`, `CUDA`, or a number it has no name for."""

    kind: str
    machine: str
    abi_version: int
    flags: int
    sections: tuple[Section, ...]
    symbols: tuple[Symbol, ...]
    notes: tuple[Note, ...]
    needed: tuple[str, ...]
    versions: Mapping[str, tuple[str, ...]]
    """Versions of symbols that it needs, by library."""

    def section(self, name: str) -> Section | None:
        """Return the section `name`."""
        return next((section for section in self.sections if section.name == name), None)

    def bytes_at(self, address: int, size: int) -> bytes:
        """Return so many bytes from an address of the loaded file, or fewer where it has none."""
        for section in self.sections:
            start = address - section.address
            if section.address and 0 <= start < len(section.content):
                return section.content[start : start + size]
        return b""

    def functions(self) -> Iterator[Symbol]:
        """Yield the functions that others can call."""
        return (s for s in self.symbols if s.kind == "FUNC" and s.binding == "GLOBAL" and s.section is not None)

    def code_of(self, symbol: Symbol) -> bytes:
        """Return the bytes of a function; NotElf where they are not in its section."""
        if symbol.section is None or symbol.section >= len(self.sections):
            raise NotElf(f"the symbol `{symbol.name}` is in no section")
        section = self.sections[symbol.section]
        start = symbol.address - section.address
        code = section.content[max(start, 0) : start + symbol.size]
        if start < 0 or len(code) != symbol.size:
            raise NotElf(f"the symbol `{symbol.name}` leads out of its section")
        return code


def read_elf(data: bytes) -> Elf:
    """Return what `data` holds; raise NotElf where it is no ELF file, or a damaged one."""
    if len(data) < _LEAST_BYTES or not data.startswith(b"\x7fELF"):
        raise NotElf("it does not begin as an ELF file does")
    # Imported here: only those who look into packages need it.
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415

    try:
        return _read(ELFFile(io.BytesIO(data)), data)
    except NotElf:
        raise
    except Exception as error:  # damaged input surfaces in pyelftools as errors of every class
        raise NotElf(f"damaged: {type(error).__name__}: {error}".rstrip(": ")) from error


def exported_symbols(library: Path, names: Iterable[str]) -> frozenset[str]:
    """Return which of `names` a library defines for others, by its hash table; NotElf where it cannot be read."""
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415
    from elftools.elf.hash import GNUHashSection  # noqa: PLC0415

    try:
        with library.open("rb") as stream:
            table = ELFFile(stream).get_section_by_name(".gnu.hash")
            if not isinstance(table, GNUHashSection):
                raise NotElf("it has no table of symbols")
            return frozenset(name for name in names if _defines(table, name))
    except NotElf:
        raise
    except Exception as error:
        raise NotElf(f"{type(error).__name__}: {error}") from error


def needs_of(library: Path) -> tuple[str, ...]:
    """Return which libraries a library needs; NotElf where it cannot be read."""
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415

    try:
        with library.open("rb") as stream:
            return _needed(ELFFile(stream))
    except Exception as error:
        raise NotElf(f"{type(error).__name__}: {error}") from error


def defined_versions(library: Path) -> frozenset[str]:
    """Return the versions of symbols that a library defines; NotElf where it cannot be read."""
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415
    from elftools.elf.gnuversions import GNUVerDefSection  # noqa: PLC0415

    try:
        with library.open("rb") as stream:
            tables = [s for s in ELFFile(stream).iter_sections() if isinstance(s, GNUVerDefSection)]
            return frozenset(next(names).name for table in tables for _, names in table.iter_versions())
    except Exception as error:
        raise NotElf(f"{type(error).__name__}: {error}") from error


def _defines(table: Any, name: str) -> bool:
    symbol = table.get_symbol(name)
    return symbol is not None and symbol["st_shndx"] != "SHN_UNDEF"


def _read(file: ELFFile, data: bytes) -> Elf:
    header: Any = file.header
    raw = list(file.iter_sections())
    return Elf(
        kind=_short(header["e_type"], "ET_"),
        machine=_short(header["e_machine"], "EM_"),
        abi_version=int(header["e_ident"]["EI_ABIVERSION"]),
        flags=int(header["e_flags"]),
        sections=tuple(_section(section, data) for section in raw),
        symbols=tuple(_symbols(raw)),
        notes=tuple(_notes(raw)),
        needed=_needed(file),
        versions=_versions(raw),
    )


def _short(value: object, prefix: str) -> str:
    return str(value).removeprefix(prefix)


def _section(section: Any, data: bytes) -> Section:
    # Sliced here: pyelftools fills sections without content with as many zeros as the file says, and unpacks others.
    if section["sh_type"] in {"SHT_NOBITS", "SHT_NULL"}:
        return Section(section.name, int(section["sh_addr"]), b"")
    start, size = int(section["sh_offset"]), int(section["sh_size"])
    if start + size > len(data):
        raise NotElf(f"section `{section.name}` leads out of the file")
    return Section(section.name, int(section["sh_addr"]), data[start : start + size])


def _symbols(sections: Iterable[Any]) -> Iterator[Symbol]:
    """Yield the symbols that a loader sees; a cubin has one table alone."""
    by_name = {section.name: section for section in sections}
    table = by_name.get(".dynsym") or by_name.get(".symtab")
    for symbol in table.iter_symbols() if table is not None else ():
        place = symbol["st_shndx"]
        yield Symbol(
            name=symbol.name,
            kind=_short(symbol["st_info"]["type"], "STT_"),
            binding=_short(symbol["st_info"]["bind"], "STB_"),
            section=None if place == "SHN_UNDEF" else place if isinstance(place, int) else -1,
            address=int(symbol["st_value"]),
            size=int(symbol["st_size"]),
        )


def _notes(sections: Iterable[Any]) -> Iterator[Note]:
    from elftools.elf.sections import NoteSection  # noqa: PLC0415

    for section in sections:
        if isinstance(section, NoteSection):
            for note in section.iter_notes():
                kind = note["n_type"]
                yield Note(str(note["n_name"]), kind if isinstance(kind, int) else -1, bytes(note["n_descdata"]))


def _needed(file: ELFFile) -> tuple[str, ...]:
    from elftools.elf.dynamic import DynamicSection  # noqa: PLC0415

    tables = [section for section in file.iter_sections() if isinstance(section, DynamicSection)]
    tags: list[Any] = [tag for table in tables for tag in table.iter_tags()]
    return tuple(str(tag.needed) for tag in tags if tag.entry.d_tag == "DT_NEEDED")


def _versions(sections: Iterable[Any]) -> Mapping[str, tuple[str, ...]]:
    from elftools.elf.gnuversions import GNUVerNeedSection  # noqa: PLC0415

    return {
        str(library.name): tuple(str(version.name) for version in versions)
        for section in sections
        if isinstance(section, GNUVerNeedSection)
        for library, versions in section.iter_versions()
    }
