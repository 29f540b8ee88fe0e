"""A region's `.pt2` file taken apart: the wrapper, its metadata, the kernels, and how they are launched.

Invariant: members are read as they lie in the file, never unpacked to disk, and nothing larger than the file itself.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from maxbuild.inspect.kernel import Launch

SCHEMA = "maxbuild.launches.v1"
KERNEL_SUFFIXES = (".cubin", ".hsaco")

_LAUNCHES = "maxbuild.json"
_WRAPPER, _METADATA = ".wrapper.so", ".wrapper_metadata.json"


class BadArchive(ValueError):
    """A `.pt2` file that cannot be read, or lacks what each has; the text says which."""


@dataclass(frozen=True, slots=True)
class Archive:
    """What a `.pt2` file holds. `target` and `launches` are None where it describes no kernels, as for CPUs."""

    wrapper: bytes
    metadata: Mapping[str, object]
    kernels: Mapping[str, bytes]
    ptx_bytes: int
    target: str | None
    launches: tuple[Launch, ...] | None


def read_archive(path: Path) -> Archive:
    """Return what the `.pt2` file `path` holds; raise BadArchive where it is damaged or no such file."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {_file_name(info): info for info in archive.infolist()}
            wrapper = _only(members, _WRAPPER)
            metadata = json.loads(_read(archive, members[_only(members, _METADATA)]))
            described = json.loads(_read(archive, members[_LAUNCHES])) if _LAUNCHES in members else None
            kernels = {name: _read(archive, info) for name, info in members.items() if name.endswith(KERNEL_SUFFIXES)}
            ptx = sum(info.file_size for name, info in members.items() if name.endswith(".ptx"))
            content = _read(archive, members[wrapper])
    except BadArchive:
        raise
    # The library raises these, by what is damaged: RuntimeError for encrypted members, EOFError for short ones.
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError, KeyError) as error:
        raise BadArchive(str(error) or type(error).__name__) from error
    if not isinstance(metadata, dict):
        raise BadArchive(f"{_METADATA} is not a JSON object")
    target, launches = (None, None) if described is None else _described(described)
    return Archive(content, metadata, kernels, ptx, target, launches)


def _file_name(info: zipfile.ZipInfo) -> str:
    return PurePosixPath(info.filename).name


def _only(members: Mapping[str, zipfile.ZipInfo], suffix: str) -> str:
    found = [name for name in members if name.endswith(suffix)]
    if len(found) != 1:
        raise BadArchive(f"it has {len(found)} files `*{suffix}`, and should have one")
    return found[0]


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        raise BadArchive(f"`{info.filename}` is compressed")
    return archive.read(info)


def _described(document: Any) -> tuple[str, tuple[Launch, ...]]:
    try:
        if document["schema"] != SCHEMA:
            raise BadArchive(f"{_LAUNCHES} has schema {document['schema']!r}, this version reads {SCHEMA!r}")
        return str(document["target"]), tuple(Launch.from_json(entry) for entry in document["kernels"])
    except (KeyError, TypeError, AttributeError) as error:
        raise BadArchive(f"{_LAUNCHES} is malformed: {type(error).__name__}: {error}") from error
