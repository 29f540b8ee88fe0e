"""Inspect a package: its regions and kernels, and whether they are what the target can run.

Invariant: the header and the digests are checked first, as before a package is run; nothing is loaded.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from maxbuild.errors import PackageError, UsageError
from maxbuild.inspect.checks import Check, Outcome
from maxbuild.inspect.kernels import Aim, Warned
from maxbuild.inspect.region import Region, inspect_region
from maxbuild.runtime.package import PackageHeader, check_files, read_header
from maxbuild.targets.devices import Device, device_of
from maxbuild.targets.spelling import Target, parse_target


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a package holds; `device` is None for CPUs."""

    folder: Path
    name: str
    target: str
    device: Device | None
    regions: tuple[Region, ...]

    @property
    def checks(self) -> tuple[Check, ...]:
        """Return the checks of all regions."""
        return tuple(check for region in self.regions for check in region.checks)

    @property
    def warnings(self) -> tuple[Warned, ...]:
        """Return the warnings of all regions."""
        return tuple(warned for region in self.regions for warned in region.warnings)

    def with_outcome(self, outcome: Outcome) -> tuple[Check, ...]:
        """Return the checks with this outcome."""
        return tuple(check for check in self.checks if check.outcome is outcome)


def inspect_package(folder: Path, *, with_instructions: bool = False) -> Inspection:
    """Return what the package in `folder` holds, and which checks it passes.

    with_instructions: count the instructions of each kernel too, which takes some time. Raise PackageError where it is
    no package, a damaged one, or for a target that this version does not know.
    """
    header = read_header(folder)
    target = _target(header)
    check_files(folder, header)
    device = None if target.api == "cpu" else device_of(target)
    aim = Aim(target, device, with_instructions)
    # Most of the time goes to the tools that take code apart, which are processes of their own.
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        regions = pool.map(lambda item: inspect_region(item[1], folder, item[0], aim), _regions(header).items())
        return Inspection(folder, header.name, target.spelling, device, tuple(regions))


def _target(header: PackageHeader) -> Target:
    """Return the target as the header spells it, in full: a package is never for whatever this host has."""
    try:
        target = parse_target(header.target)
        if target.spelling == header.target:
            return target
    except UsageError:
        pass
    raise PackageError(
        f"the package is built for `{header.target}`, which this version does not know",
        hint="`maxbuild targets` lists what it knows",
    )


def _regions(header: PackageHeader) -> dict[str, list[str]]:
    """Return the file of each region with the names that roles have for it: `main/decoder.full`, `draft/before`.

    Alternatives have their rank behind the name: `main/decoder.full (1)`.
    """
    found: dict[str, list[str]] = {}
    for role, component in header.components.items():
        for name, path in component.regions.items():
            found.setdefault(path, []).append(f"{role}/{name}")
        for name, by_rank in component.alternatives.items():
            for rank, path in by_rank.items():
                found.setdefault(path, []).append(f"{role}/{name} ({rank})")
    for name, path in header.samplers.regions.items() if header.samplers else ():
        found.setdefault(path, []).append(f"samplers/{name}")
    return found
