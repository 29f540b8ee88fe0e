"""A region's wrapper: the library that a server calls, and that loads and launches the kernels beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from maxbuild.inspect.checks import Check, failed, judged, listed, passed, unchecked
from maxbuild.inspect.elf import Elf
from maxbuild.inspect.texts import texts_in_code
from maxbuild.inspect.x86 import exceeds, level_used

# A wrapper loads a kernel by `loadKernel("triton_poi_fused_0.cubin", "triton_poi_fused_0", …)`
# (torch/_inductor/codegen/cpp_wrapper_gpu.py, `generate_load_kernel`). Compilers put so short a text into the code.
_FILE = re.compile(rb"(?:.*/)?([\w.-]+\.(?:cubin|hsaco))")
_WHOLE = re.compile(rb"(?<=\0)[^\0]+\.(?:cubin|hsaco)(?=\0)")
_LEAST_PIECE = 4

_VECTORS: Mapping[str, str] = {"AVX2": "x86-64-v3", "AVX512": "x86-64-v4"}


@dataclass(frozen=True, slots=True)
class Wrapper:
    """One wrapper: its size in bytes, the libraries it needs, the newest version that it asks of each.

    `level` is the x86-64 level of its code: by its instructions, or else, with `level_by_header`, as its metadata says.
    """

    size: int
    needed: tuple[str, ...]
    versions: Mapping[str, str]
    level: str | None
    level_by_header: bool


def read_wrapper(elf: Elf, size: int, listing: str | None, metadata: Mapping[str, object]) -> tuple[Wrapper, str]:
    """Return the wrapper, and the instruction that makes its level what it is, empty where that is not known.

    listing: of its code, None where there is none. metadata: Inductor's, of the region.
    """
    newest = {library: max(versions, key=_version_key) for library, versions in elf.versions.items() if versions}
    if listing is None:
        return Wrapper(size, elf.needed, newest, level_of_metadata(metadata), level_by_header=True), ""
    used = level_used(listing)
    return Wrapper(size, elf.needed, newest, used.level, level_by_header=False), used.example


def level_of_metadata(metadata: Mapping[str, object]) -> str | None:
    """Return the level that Inductor's metadata of a region tells by the vectors it uses; None where it tells none."""
    words = str(metadata.get("AOTI_CPU_ISA", "")).upper().split()
    found = [_VECTORS[word] for word in words if word in _VECTORS]
    return max(found) if found else None


def check_level(subject: str, wrapper: Wrapper, allowed: str, example: str) -> Check:
    """Check that the code needs no more than the level that it is built for."""
    name = "instruction set"
    if wrapper.level is not None and exceeds(wrapper.level, allowed):
        how = f", `{example}` for one" if example else " by its metadata"
        return failed(name, subject, f"the library needs {wrapper.level}{how}; it is built for {allowed}")
    if wrapper.level_by_header:
        return unchecked(name, subject, "no `objdump` here: the library's instructions were not looked at")
    return passed(name, subject, f"{wrapper.level}, built for {allowed}")


def check_machine(subject: str, elf: Elf) -> Check:
    """Check that a wrapper is a shared library for x86-64."""
    right = (elf.machine, elf.kind) == ("X86_64", "DYN")
    return judged("machine", subject, None if right else f"the library is {elf.kind} for {elf.machine}, not for x86-64")


def check_names(
    subject: str, data: bytes, elf: Elf, listing: str | None, files: Iterable[str], entries: Iterable[str]
) -> Check:
    """Check that the wrapper names each kernel of its region, by file and entry point, and no other file."""
    name, files = "named kernels", sorted(files)
    unnamed = [text for text in (*files, *sorted(entries)) if not _is_named(data, text.encode())]
    if unnamed:
        return failed(name, subject, f"the library never names {listed(unnamed)}")
    if listing is None:
        return unchecked(name, subject, "no `objdump` here: whether the library names other kernels was not looked at")
    # Of a very long name the code may put together the end alone; the rest it copies from the data.
    strange = [n for n in sorted(named_files(data, elf, listing)) if not any(file.endswith(n) for file in files)]
    if strange:
        return failed(name, subject, f"the library names kernels that are not in the region: {listed(strange)}")
    return passed(name, subject, f"{len(files)} kernels")


def named_files(data: bytes, elf: Elf, listing: str) -> set[str]:
    """Return the files of kernels that a wrapper names: in its data, or put together by its code."""
    texts = _WHOLE.findall(data)
    texts += [text for run in texts_in_code(listing, elf.bytes_at) for text in run.split(b"\0")]
    return {found[1].decode() for text in texts if (found := _FILE.fullmatch(text))}


def _is_named(data: bytes, name: bytes) -> bool:
    """Tell whether `name` is in `data`, whole or in pieces one after the other."""
    place = 0
    while len(name) - place >= _LEAST_PIECE:
        length = _LEAST_PIECE
        if name[place : place + length] not in data:
            return False
        while place + length < len(name) and name[place : place + length + 1] in data:
            length += 1
        place += length
    return True


def _version_key(version: str) -> tuple[str, list[int]]:
    family, _, number = version.partition("_")
    return family, [int(part) for part in number.split(".") if part.isdecimal()]
