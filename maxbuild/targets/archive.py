"""A region's `.pt2` file, put together of its two halves: what Inductor and Triton made, and the C++ library.

Invariant: equal halves give equal bytes.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from maxbuild.targets.recipe import Recipe

FOLDER = "region/data/aotinductor/model"
"""Where a region's library lies in its `.pt2` file, and what the library loads beside it."""

_LIBRARY = f"{FOLDER}/region.wrapper.so"

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip archive can hold."""


class Compiled(NamedTuple):
    """What a compile gives: how to build the library, Inductor's own words on it, and what lies beside it, by path."""

    recipe: Recipe
    metadata: bytes
    beside: Mapping[str, bytes]


def read_metadata(archive: Path) -> bytes:
    """Return what Inductor says of the library, in the archive that it wrote."""
    with zipfile.ZipFile(archive) as source:
        return source.read(next(name for name in source.namelist() if name.endswith(".wrapper_metadata.json")))


def write_code(compiled: Compiled, output: Path) -> None:
    """Write the half without the library to `output`.

    Not taken over from Inductor's own archive: generated sources (they quote command lines), random ids, and names made
    of hashes of paths.
    """
    contents = {
        "region/archive_format": b"pt2",
        "region/archive_version": b"0",
        "region/byteorder": b"little",
        f"{FOLDER}/region.wrapper_metadata.json": compiled.metadata,
        # Loaders before torch 2.13 take the metadata's name from that of a source (model_package_loader.cpp).
        f"{FOLDER}/region.wrapper.cpp": b"",
        **compiled.beside,
    }
    with zipfile.ZipFile(output, "w", zipfile.ZIP_STORED) as written:
        for name, content in contents.items():
            written.writestr(zipfile.ZipInfo(name, _EPOCH), content)


def assemble(code: Path, library: Path, output: Path) -> None:
    """Write the `.pt2` file `output` of its two halves."""
    with zipfile.ZipFile(code) as source, zipfile.ZipFile(output, "w", zipfile.ZIP_STORED) as written:
        for name in source.namelist():
            written.writestr(zipfile.ZipInfo(name, _EPOCH), source.read(name))
        written.writestr(zipfile.ZipInfo(_LIBRARY, _EPOCH), library.read_bytes())
