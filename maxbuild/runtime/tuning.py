"""What was timed on a device, in a file beside the package: which alternative of a region the device runs faster.

Invariant: the file is data, and never part of the package. It is used for the very package, device and torch that it
was made with, and chooses only among what that package holds; else the package runs as it was built, with a reason.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from maxbuild.errors import PackageError
from maxbuild.layout import HEADER

if TYPE_CHECKING:
    from maxbuild.runtime.device import Gpu
    from maxbuild.runtime.package import PackageHeader

SCHEMA = "maxbuild.tuning.v1"
SUFFIX = ".tuning.json"

_LARGEST = 16 << 20

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What timings hold for.

    package: the SHA-256 of its header, which pins all the rest. device: what torch calls it. target: what it is, as in
    `cuda:sm_90`, whatever the package is built for. torch: its whole version.
    """

    package: str
    device: str
    target: str
    torch: str

    def difference(self, other: Circumstances) -> str | None:
        """Return in words what is another in `other`; None where timings hold for both."""
        if self.package != other.package:
            return "it was made for another build of the package"
        if (self.device, self.target) != (other.device, other.target):
            return f"it was made on {self.device} ({self.target}), and this is {other.device} ({other.target})"
        if self.torch != other.torch:
            return f"it was made with torch {self.torch}, and this is {other.torch}"
        return None


@dataclass(frozen=True, slots=True)
class Trial:
    """One form of a region as it was tried; `rank` 0 is the form that the package runs without tuning.

    region: `main/decoder.full`. path: its file in the package. nanoseconds: the median by workload. ratios: to the
    default, by workload. error: from the default's outputs. trouble: why it was not timed.
    """

    region: str
    rank: int
    path: str
    nanoseconds: Mapping[str, int]
    ratios: Mapping[str, float]
    error: float | None
    trouble: str | None


@dataclass(frozen=True, slots=True)
class Tuning:
    """What a tuning file says. choices: from a region's file, as it is built, to the alternative that runs instead."""

    made_with: Circumstances
    driver: str | None
    choices: Mapping[str, str]
    trials: Sequence[Trial]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, from which `from_json` makes an equal tuning."""
        return {
            "schema": SCHEMA,
            **asdict(self.made_with),
            "driver": self.driver,
            "choices": dict(self.choices),
            "measured": [asdict(trial) for trial in self.trials],
        }

    @classmethod
    def from_json(cls, document: object) -> Self:
        """Read the JSON form; ValueError in words where it is none."""
        content = _object(document, "the document")
        if content.get("schema") != SCHEMA:
            raise ValueError(f"its schema is {content.get('schema')!r}, this version reads {SCHEMA!r}")
        made_with = {name: _member(content, name, str) for name in ("package", "device", "target", "torch")}
        driver = content.get("driver")
        return cls(
            Circumstances(**made_with),
            None if driver is None else _typed(driver, "driver", str),
            _by_name(content, "choices", str),
            [_trial(_object(entry, "measured")) for entry in _member(content, "measured", list)],
        )


@dataclass(frozen=True, slots=True)
class Applied:
    """What a package that was loaded took of the file beside it.

    choices: what runs in place of what; empty where nothing does. unused: why the file was left aside, None where it
    was not, or where there is none.
    """

    choices: Mapping[str, str] = field(default_factory=dict)
    unused: str | None = None


AS_BUILT = Applied()


def tuning_file(folder: Path) -> Path:
    """Return where the tuning of the package in `folder` lies: beside it, under its real name and a suffix."""
    place = folder.resolve()
    if not place.name:
        raise PackageError(f"`{folder}` has no place beside it for a tuning")
    return place.with_name(place.name + SUFFIX)


def header_digest(folder: Path) -> str:
    """Return the SHA-256 of the header of the package in `folder`."""
    return hashlib.sha256((folder / HEADER).read_bytes()).hexdigest()


def read_tuning(file: Path) -> Tuning | None:
    """Return what `file` says, None where it is not there; PackageError where it cannot be read or is no tuning."""
    try:
        with file.open("rb") as stream:
            data = stream.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise ValueError("it is larger than any tuning")
        return Tuning.from_json(json.loads(data, parse_constant=_no_number))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, OverflowError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise PackageError(
            f"`{file}` is no tuning that this version can read",
            causes=[reason],
            hint="`maxbuild tune --remove` removes it, and `maxbuild tune` makes it anew",
        ) from error


def apply_tuning(folder: Path, header: PackageHeader, device: Gpu | None, torch_version: str) -> Applied:
    """Return what the file beside the package changes on `device` (None: a CPU); nothing is raised for a bad file."""
    file = tuning_file(folder) if folder.resolve().name else None
    try:
        tuning = None if file is None else read_tuning(file)
    except PackageError as error:
        return Applied(unused=f"{error.message}: {'; '.join(error.causes)}")
    if tuning is None:
        return AS_BUILT
    unused = "it was made on a GPU, and this is a CPU"
    if device is not None:
        here = Circumstances(header_digest(folder), device.name, device.target.spelling, torch_version)
        unused = tuning.made_with.difference(here) or _stranger(tuning, header) or ""
    return Applied(unused=f"`{file}`: {unused}") if unused else Applied(tuning.choices)


def _stranger(tuning: Tuning, header: PackageHeader) -> str | None:
    """Return in words which choice is none that the package's header offers."""
    offered = header.alternatives_by_path
    for path, chosen in tuning.choices.items():
        if chosen not in offered.get(path, {}).values():
            return f"it takes `{chosen}` for `{path}`, which the package does not offer"
    return None


def _trial(content: Mapping[str, Any]) -> Trial:
    error, trouble = content.get("error"), content.get("trouble")
    return Trial(
        region=_member(content, "region", str),
        rank=_member(content, "rank", int),
        path=_member(content, "path", str),
        nanoseconds=_by_name(content, "nanoseconds", int),
        ratios=_by_name(content, "ratios", float),
        error=None if error is None else _typed(error, "error", float),
        trouble=None if trouble is None else _typed(trouble, "trouble", str),
    )


def _no_number(text: str) -> float:
    raise ValueError(f"`{text}` is no number of JSON's")


def _object(value: object, name: str) -> Mapping[str, Any]:
    return _typed(value, name, dict)


def _by_name(content: Mapping[str, Any], name: str, kind: type[Value]) -> Mapping[str, Value]:
    members: Mapping[str, object] = _member(content, name, dict)
    return {key: _typed(value, name, kind) for key, value in members.items()}


def _member(content: Mapping[str, Any], name: str, kind: type[Value]) -> Value:
    if name not in content:
        raise ValueError(f"it has no `{name}`")
    return _typed(content[name], name, kind)


def _typed(value: object, name: str, kind: type[Value]) -> Value:
    """Return `value`, which is to be of the type `kind`; ValueError where it is not. A whole number is a number."""
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    is_strange = isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value))
    if is_strange or not isinstance(value, kind):
        raise ValueError(f"`{name}` is not what it should be")
    return value
