"""The libraries that a wrapper needs, as this host has them: do they define all that it leaves undefined?

Invariant: libraries are read as files. What a library that is not here would define is named, and never assumed.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from maxbuild.inspect.checks import Check, failed, listed, passed, unchecked
from maxbuild.inspect.elf import Elf, NotElf, defined_versions, exported_symbols, needs_of
from maxbuild.targets.parts import triton_folder

_NAME = "symbols"

_INTERFACES = ("aoti_torch_", "cu", "hip")
_TORCH_HEADERS = ("include/torch/csrc/inductor/aoti_torch/c", "include/torch/csrc/inductor/aoti_torch/generated")
_TRITON_HEADERS = ("nvidia/include", "amd/include/hip")
_WORD = re.compile(rb"\b(?:aoti_torch_|cu|hip)\w+")

# Where glibc's linker looks, on the distributions that packages run on, and where a driver puts its own library.
_SYSTEM = (
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
    "/usr/local/cuda/lib64",
    "/usr/local/nvidia/lib64",
    "/opt/rocm/lib",
)


@dataclass(frozen=True, slots=True)
class Provided:
    """What became of some undefined symbols: which nothing here defines, and the libraries that are not here."""

    left: tuple[str, ...]
    absent: tuple[str, ...]
    lacking: tuple[str, ...]
    """Versions that a library here does not define, as in `GLIBCXX_3.4.32 in libstdc++.so.6`."""


def check_symbols(subject: str, wrapper: Elf) -> Check:
    """Check that the libraries that `wrapper` needs, and those they need, define its undefined symbols."""
    undefined = sorted({symbol.name for symbol in wrapper.symbols if symbol.is_undefined})
    found = provide(undefined, wrapper.needed, wrapper.versions)
    if found.lacking:
        return failed(_NAME, subject, f"this host's libraries have no {listed(found.lacking)}")
    if not found.left:
        return passed(_NAME, subject, f"{len(undefined)} symbols")
    if not found.absent:
        return failed(_NAME, subject, f"no library that it needs defines {listed(found.left)}")
    if unknown := undeclared(found.left):
        return failed(_NAME, subject, f"no library here defines, and no header declares, {listed(unknown)}")
    count = f"{len(found.left)} of {len(undefined)} are left to {', '.join(found.absent)}"
    return unchecked(_NAME, subject, f"{count}, not on this host: {listed(found.left)}")


def provide(undefined: Iterable[str], needed: Iterable[str], versions: Mapping[str, tuple[str, ...]]) -> Provided:
    """Look for symbols as the dynamic linker does: in all libraries that are needed, directly or not, nearest first."""
    left = set(undefined)
    waiting, seen = deque(needed), set(needed)
    absent = []
    while waiting:
        name = waiting.popleft()
        path = find_library(name)
        if path is None:
            absent.append(name)
            continue
        try:
            left -= _exported(path, frozenset(left))
            further = [other for other in _needs(path) if other not in seen]
        except NotElf:  # a linker script in the place of a library, say
            absent.append(name)
            continue
        seen.update(further)
        waiting.extend(further)
    return Provided(tuple(sorted(left)), tuple(absent), tuple(_lacking(versions)))


def _lacking(versions: Mapping[str, tuple[str, ...]]) -> list[str]:
    lacking = []
    for library, wanted in versions.items():
        path = find_library(library)
        if path is not None:
            defined = _versions(path)
            lacking += [f"{version} in {library}" for version in wanted if version not in defined]
    return lacking


def undeclared(names: Iterable[str]) -> list[str]:
    """Return which C functions of torch's, CUDA's or HIP's interfaces no header here declares; none without headers."""
    declared = _declared()
    ours = [name for name in names if name.startswith(_INTERFACES)]
    return [name for name in ours if name not in declared] if declared else []


@functools.cache
def _declared() -> frozenset[str]:
    """Return every word in the headers that describe what a wrapper calls: torch's, and those in Triton's wheel."""
    files = [Path(place) / folder for place in _places("torch") for folder in _TORCH_HEADERS]
    triton = triton_folder()
    files += [triton / "backends" / folder for folder in _TRITON_HEADERS] if triton else []
    headers = [header for place in files for header in sorted(place.glob("*.h"))]
    found = {folder for folder in files if any(header.parent == folder for header in headers)}
    if len(found) < len(_TORCH_HEADERS) + len(_TRITON_HEADERS):
        return frozenset()
    return frozenset(word.decode() for header in headers for word in _WORD.findall(header.read_bytes()))


@functools.cache
def find_library(name: str) -> Path | None:
    """Return where this host has the library `name`: beside torch, in NVIDIA's wheels, or in the system's folders."""
    if "/" in name or not name:
        return None
    folders = [Path(place) / "lib" for place in _places("torch")]
    folders += [folder for place in _places("nvidia") for folder in sorted(Path(place).glob("*/lib"))]
    return next((path for folder in (*folders, *map(Path, _SYSTEM)) if (path := folder / name).is_file()), None)


def _places(package: str) -> list[str]:
    """Return the folders of a package without importing it."""
    found = importlib.util.find_spec(package)
    return list(found.submodule_search_locations or ()) if found else []


# A package's regions need the same few libraries, and one look into a large one takes a tenth of a second.
_needs = functools.cache(needs_of)
_versions = functools.cache(defined_versions)
_exported = functools.cache(exported_symbols)
