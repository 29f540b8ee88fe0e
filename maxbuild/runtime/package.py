"""A package's header: what it holds, for which target, and the digest of every file; checked before anything else.

Invariant: no file of a package is opened for use before its bytes are those that the header names, and the header alone
says whether this host can run it. Paths are relative and stay inside the package.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Self

from maxbuild.errors import PackageError
from maxbuild.layout import HEADER
from maxbuild.runtime.torch_build import TorchBuild, installed_torch
from maxbuild.targets.host import Host
from maxbuild.targets.spelling import Target

SCHEMA = "maxbuild.package.v1"

_READ_BYTES = 1 << 20
_LARGEST_HEADER = 64 << 20


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a package: the SHA-256 of its content, and its size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class ComponentEntry:
    """One component: its program, its weight index, its regions' artifacts, and the model's own files, all as paths.

    alternatives: by region and rank (`1`, `2`) the same region with other configurations of its kernels.
    """

    program: str
    weights: str
    regions: Mapping[str, str]
    files: Mapping[str, str]
    served_model_name: str | None
    alternatives: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def paths(self) -> Iterator[str]:
        """Yield the path of every file that the component names."""
        yield from (self.program, self.weights, *self.regions.values(), *self.files.values())
        for by_rank in self.alternatives.values():
            yield from by_rank.values()


@dataclass(frozen=True, slots=True)
class SamplersEntry:
    """What picks tokens from logits: the samplers' program and their regions' artifacts, as paths."""

    program: str
    regions: Mapping[str, str]

    @property
    def paths(self) -> Iterator[str]:
        """Yield the path of every file that the samplers name."""
        yield from (self.program, *self.regions.values())


@dataclass(frozen=True, slots=True)
class SpeculativeEntry:
    """How the draft's tokens are used; thinking_tokens: what begins and ends a span of relaxed acceptance."""

    speculative_method: str
    num_speculative_tokens: int
    rejection_sampling_strategy: str
    thinking_tokens: tuple[int, int] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "speculative_method": self.speculative_method,
            "num_speculative_tokens": self.num_speculative_tokens,
            "rejection_sampling_strategy": self.rejection_sampling_strategy,
            "thinking_tokens": None if self.thinking_tokens is None else list(self.thinking_tokens),
        }


@dataclass(frozen=True, slots=True)
class PackageHeader:
    """Everything `package.json` says."""

    name: str
    target: str
    components: Mapping[str, ComponentEntry]
    speculative: SpeculativeEntry | None
    built_with: Mapping[str, str]
    files: Mapping[str, FileEntry]
    samplers: SamplersEntry | None = None
    serving: Mapping[str, Any] = field(default_factory=dict)
    """What the manifest says to a server: by section (`runtime`, `kv_cache`, `models`) the values that are no defaults.
    Numbers with a point are decimal text, mappings JSON text."""

    @property
    def built_for(self) -> Target:
        """Return the target, which may be one that nothing here knows."""
        api, _, arch = self.target.partition(":")
        return Target(api, arch)

    @property
    def alternatives_by_path(self) -> dict[str, Mapping[str, str]]:
        """Return for the file of each region that has alternatives their files by rank."""
        return {
            entry.regions[region]: by_rank
            for entry in self.components.values()
            for region, by_rank in entry.alternatives.items()
        }

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, from which `from_json` makes an equal header."""
        return {
            "schema": SCHEMA,
            "name": self.name,
            "target": self.target,
            "components": {
                role: {
                    "program": entry.program,
                    "weights": entry.weights,
                    "regions": dict(entry.regions),
                    "files": dict(entry.files),
                    "served_model_name": entry.served_model_name,
                    # Left out where there are none, as in all packages for CPUs.
                    **(
                        {"alternatives": {region: dict(paths) for region, paths in entry.alternatives.items()}}
                        if entry.alternatives
                        else {}
                    ),
                }
                for role, entry in self.components.items()
            },
            "speculative": None if self.speculative is None else self.speculative.to_json(),
            "samplers": None
            if self.samplers is None
            else {"program": self.samplers.program, "regions": dict(self.samplers.regions)},
            "serving": {section: dict(values) for section, values in self.serving.items()},
            "built_with": dict(self.built_with),
            "files": {path: {"sha256": entry.sha256, "size": entry.size} for path, entry in self.files.items()},
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read the JSON form; raise PackageError where it is malformed, of another schema, or names paths outside."""
        if document.get("schema") != SCHEMA:
            raise PackageError(
                f"the package's schema is {document.get('schema')!r}, this version reads {SCHEMA!r}",
                hint="build the package again with this version of maxbuild",
            )
        try:
            header = cls(
                name=str(document["name"]),
                target=str(document["target"]),
                components={str(role): _component(entry) for role, entry in document["components"].items()},
                speculative=_speculative(document["speculative"]),
                samplers=_samplers(document["samplers"]),
                built_with={str(k): str(v) for k, v in document["built_with"].items()},
                files={
                    _inside(path): FileEntry(str(entry["sha256"]), int(entry["size"]))
                    for path, entry in document["files"].items()
                },
                serving={str(section): dict(values) for section, values in document["serving"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PackageError(f"{HEADER} is malformed", causes=[f"{type(error).__name__}: {error}"]) from error
        parts: list[ComponentEntry | SamplersEntry] = [*header.components.values()]
        for part in [*parts, header.samplers] if header.samplers else parts:
            for path in part.paths:
                if path not in header.files:
                    raise PackageError(f"{HEADER} is malformed", causes=[f"it names `{path}` and no digest of it"])
        return header


def _component(entry: Mapping[str, Any]) -> ComponentEntry:
    name = entry["served_model_name"]
    return ComponentEntry(
        program=str(entry["program"]),
        weights=str(entry["weights"]),
        regions={str(k): str(v) for k, v in entry["regions"].items()},
        files={str(k): str(v) for k, v in entry["files"].items()},
        served_model_name=None if name is None else str(name),
        alternatives=_alternatives(entry),
    )


def _alternatives(entry: Mapping[str, Any]) -> Mapping[str, Mapping[str, str]]:
    found = entry.get("alternatives", {})
    if strange := found.keys() - entry["regions"].keys():
        raise ValueError(f"alternatives of `{min(strange)}`, which is no region")
    return {str(region): {str(int(rank)): str(path) for rank, path in paths.items()} for region, paths in found.items()}


def _speculative(entry: Mapping[str, Any] | None) -> SpeculativeEntry | None:
    if entry is None:
        return None
    thinking = entry["thinking_tokens"]
    return SpeculativeEntry(
        str(entry["speculative_method"]),
        int(entry["num_speculative_tokens"]),
        str(entry["rejection_sampling_strategy"]),
        None if thinking is None else (int(thinking[0]), int(thinking[1])),
    )


def _samplers(entry: Mapping[str, Any] | None) -> SamplersEntry | None:
    if entry is None:
        return None
    return SamplersEntry(str(entry["program"]), {str(k): str(v) for k, v in entry["regions"].items()})


def _inside(path: str) -> str:
    pure = PurePosixPath(path)
    if pure.is_absolute() or not pure.parts or ".." in pure.parts or "\\" in path:
        raise ValueError(f"path `{path}` leads out of the package")
    return path


def read_header(folder: Path) -> PackageHeader:
    """Read and check `package.json`; raise PackageError where `folder` is no package or a damaged one."""
    path = folder / HEADER
    try:
        if path.stat().st_size > _LARGEST_HEADER:
            raise PackageError(f"`{folder}` is no package", causes=[f"{HEADER} is larger than any header"])
        document = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise PackageError(
            f"`{folder}` is no package",
            causes=[f"it has no {HEADER}"],
            hint="`maxbuild warm MANIFEST` prints package paths",
        ) from error
    except (OSError, ValueError) as error:
        raise PackageError(f"could not read `{path}`", causes=[str(error)]) from error
    if not isinstance(document, dict):
        raise PackageError(f"{HEADER} is malformed", causes=["it is not a JSON object"])
    return PackageHeader.from_json(document)


def check_host(header: PackageHeader, host: Host | None = None, torch: TorchBuild | None = None) -> None:
    """Raise PackageError unless this host and its torch (default: what is here) can run what the package is built for.

    torch is not imported, and no more is asked of a GPU's driver than which GPUs there are.
    """
    target = header.built_for
    host, torch = host or Host(), torch or installed_torch()
    if not host.runs(target):
        unfit = [] if torch is None or torch.serves(target.api) else [str(torch)]
        raise PackageError(
            f"the package is built for `{header.target}`, which this host cannot run",
            causes=[str(host.find(target.api)), *unfit],
            hint="`maxbuild targets` lists what it can run; build for one of those with `--target`",
        )
    _check_torch(header, torch)


def _check_torch(header: PackageHeader, torch: TorchBuild | None) -> None:
    built = header.built_with.get("torch", "none")
    release = built.partition("+")[0]
    if torch is None:
        raise PackageError("torch is not installed", hint=f"`pip install torch=={release}`")
    if _release(built) != _release(torch.version):
        raise PackageError(
            f"the package is built with torch {built}, this host has {torch.version}",
            causes=["compiled regions call torch's C interface, which may change with its minor version"],
            hint="build the package with the torch that serves it",
        )
    if not torch.serves(header.built_for.api):
        raise PackageError(
            f"the package is built for `{header.target}`, which the torch of this host cannot use",
            causes=[str(torch)],
            hint=f"https://pytorch.org/get-started/locally has torch {release} for GPUs",
        )


def _release(version: str) -> list[str]:
    return version.split(".")[:2]


def check_files(folder: Path, header: PackageHeader) -> None:
    """Raise PackageError unless every file is there, is a plain file, and has its digest. Reads every byte once."""
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        problems = pool.map(lambda item: _check_file(folder, *item), sorted(header.files.items()))
    found = [problem for problem in problems if problem]
    if found:
        more = [f"and {len(found) - 5} more files"] if len(found) > 5 else []
        raise PackageError(
            f"package `{folder}` is damaged", causes=[*found[:5], *more], hint="`maxbuild warm` writes it anew"
        )


def _check_file(folder: Path, path: str, entry: FileEntry) -> str | None:
    """Return what is wrong with a file, or None. Sizes are compared first, since they cost nothing."""
    file = folder / path
    try:
        if not file.resolve().is_relative_to(folder.resolve()):
            return f"`{path}` leads out of the package"
        size = file.stat().st_size
        if size != entry.size:
            return f"`{path}` has {size} bytes, the header says {entry.size}"
        if _digest(file) != entry.sha256:
            return f"`{path}` has other bytes than the header says"
    except OSError as error:
        return f"`{path}`: {error.strerror}"
    return None


def _digest(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_READ_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
