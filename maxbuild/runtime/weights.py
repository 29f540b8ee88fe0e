"""The tensors of a component, read from their files straight to the device that they are used on.

Invariant: what a package holds is never written to, and on a CPU tensors are mapped, not copied.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors import safe_open
from torch import Tensor, device

from maxbuild.errors import PackageError
from maxbuild.runtime.package import PackageHeader

SCHEMA = "maxbuild.weights.v1"

_CPU = device("cpu")


def read_tensors(
    folder: Path, header: PackageHeader, role: str, names: Iterable[str], place: device = _CPU
) -> dict[str, Tensor]:
    """Read the named tensors of a component onto the device `place`.

    Raise PackageError for a tensor that the weight index lacks, and for a file that the header does not list.
    """
    tensors: dict[str, Tensor] = {}
    for path, members in _by_file(folder, header, role, names).items():
        with safe_open(folder / path, framework="pt", device=str(place)) as reader:
            tensors.update({name: reader.get_tensor(stored) for name, stored in members.items()})
    return tensors


def tensor_names(folder: Path, header: PackageHeader, role: str) -> tuple[str, ...]:
    """Return the names of all tensors of a component."""
    return tuple(_read_index(folder, header, role))


def _by_file(folder: Path, header: PackageHeader, role: str, names: Iterable[str]) -> Mapping[str, Mapping[str, str]]:
    """Return for each weight file the tensors that are wanted of it, and how each is called in it."""
    places = _read_index(folder, header, role)
    found: dict[str, dict[str, str]] = {}
    for name in names:
        if name not in places:
            raise PackageError(f"the package has no weight `{name}`, which its program names")
        path = f"{role}/weights/{places[name]['file']}"
        if path not in header.files:
            raise PackageError(f"the weight index names `{path}`, which the header does not list")
        found.setdefault(path, {})[name] = places[name]["tensor"]
    return found


def _read_index(folder: Path, header: PackageHeader, role: str) -> Mapping[str, Mapping[str, str]]:
    """Return for each tensor its file and its name in there."""
    document = json.loads((folder / header.components[role].weights).read_bytes())
    if document.get("schema") != SCHEMA:
        raise PackageError(f"the weight index has schema {document.get('schema')!r}, not {SCHEMA!r}")
    tensors: Mapping[str, Mapping[str, str]] = document["tensors"]
    return tensors
