"""Two builds of the same packages, compared file by file and byte for byte; and in which task a difference began.

Files are paired by what they are, not by where they lie: a compiled region's path is made of its digest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from maxbuild.engine import OutputOf, Report, SourceFile, Store
from maxbuild.layout import HEADER
from maxbuild.packages import parts_of
from maxbuild.reproducible.locate import Place, first_difference

_REGIONS = "/regions/"
_ALTERNATIVES = "/alternatives/"
_LIBRARIES = "libraries/"


@dataclass(frozen=True, slots=True)
class Build:
    """One build of the packages: what it came to, in which store."""

    report: Report
    store: Store


@dataclass(frozen=True, slots=True)
class Difference:
    """A file that is another in the second package.

    `path` is that in the first package, or in the second where the first has no such file. `region` is (role, name) of
    a compiled region. `maker` is the task that left it, None for a file of the model's own. `place` is None where one
    package alone has the file, and `note` says which.
    """

    path: str
    region: tuple[str, str] | None
    maker: str | None
    place: Place | None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two packages of one target: how many files and bytes the first has, how many of the files are `shared`.

    A shared file is one and the same in both, a model's own. `differences` begin with the first. `origins` are the
    tasks that left something else, though all that they were given was the same.
    """

    target: str
    files: int
    bytes: int
    shared: int
    differences: tuple[Difference, ...]
    origins: tuple[str, ...]

    @property
    def identical(self) -> bool:
        """Return whether no byte is another."""
        return not self.differences


@dataclass(frozen=True, slots=True)
class _Part:
    """One file of a package: its path there, and where its content lies."""

    path: str
    file: Path


def compare_packages(tasks: Mapping[str, str], first: Build, second: Build) -> Sequence[Comparison]:
    """Compare the packages of two complete builds; `tasks` are the package tasks by target."""
    return [_compare(target, task, first, second) for target, task in tasks.items()]


def _compare(target: str, task: str, first: Build, second: Build) -> Comparison:
    header, parts = _parts(task, first)
    other_header, others = _parts(task, second)
    pairs = {name: (parts[name].file, others[name].file) for name in sorted(parts.keys() & others.keys())}
    differences = [
        *_lone(task, first, parts, others, "the first package alone has it"),
        *_lone(task, second, others, parts, "the second package alone has it"),
        *(
            Difference(parts[name].path, _region(name), _maker(_half(name, place), task, first), place)
            for name, pair in pairs.items()
            if (place := first_difference(*pair)) is not None
        ),
    ]
    if not differences and (place := first_difference(header, other_header)) is not None:
        differences.append(Difference(HEADER, None, task, place))
    files = {part.path: part.file for part in parts.values()} | {HEADER: header}
    return Comparison(
        target,
        files=len(files),
        bytes=sum(file.stat().st_size for file in files.values()),
        shared=sum(here.samefile(there) for here, there in pairs.values()),
        differences=tuple(differences),
        origins=_origins(task, first.report, second.report) if differences else (),
    )


def _lone(
    task: str, build: Build, parts: Mapping[str, _Part], others: Mapping[str, _Part], note: str
) -> Iterator[Difference]:
    """Yield the files of `parts` that `others` lacks."""
    for name in sorted(parts.keys() - others.keys()):
        yield Difference(parts[name].path, _region(name), _maker(name, task, build), None, note)


def _parts(task: str, build: Build) -> tuple[Path, Mapping[str, _Part]]:
    """Return where the header of a package lies, and its files by what they are to the package task."""
    digest = build.report.results[task].outputs["package"]
    content, files = parts_of(digest, build.store)
    header = build.store.blob_path(digest)
    assert header is not None  # it was read a moment ago
    said = json.loads(content)
    components = {**said["components"], **({"samplers": said["samplers"]} if said["samplers"] else {})}
    regions = {
        f"{role}{_REGIONS}{region}": path
        for role, component in components.items()
        for region, path in component["regions"].items()
    } | {
        f"{role}{_ALTERNATIVES}{rank}/{region}": path
        for role, component in components.items()
        for region, by_rank in component.get("alternatives", {}).items()
        for rank, path in by_rank.items()
    }
    named = {path: path for path in files.keys() - regions.values()} | regions
    return header, {name: _Part(path, files[path][1]) for name, path in named.items()}


def _region(name: str) -> tuple[str, str] | None:
    if _ALTERNATIVES in name:
        role, _, form = name.partition(_ALTERNATIVES)
        rank, _, region = form.partition("/")
        return role, f"{region} ({rank})"
    role, _, region = name.partition(_REGIONS)
    return (role, region) if region else None


def _half(name: str, place: Place) -> str:
    """Return which of the two inputs that a region is put together of differs at `place`; other files are one."""
    return f"{_LIBRARIES}{name}" if place.member and place.member.endswith(".so") else name


def _maker(name: str, task: str, build: Build) -> str | None:
    """Return the task that made the file that the package `task` is given as `name`; None for a file of the model's."""
    match build.report.task_graph.task(task).inputs.get(name):
        case OutputOf(maker, _):
            return maker
        case SourceFile():
            return None
        case None:  # what it is not given, it makes: the manifest's chat template
            return task


def _origins(task: str, first: Report, second: Report) -> tuple[str, ...]:
    """Return the tasks behind the package `task` with equal keys and other results, in the order of the graph."""
    behind = first.task_graph.with_producers([task])
    keys = {report.name: report.key for report in second.tasks}
    return tuple(
        report.name
        for report in first.tasks
        if report.name in behind
        and report.key == keys.get(report.name)
        and first.results[report.name].outputs != second.results[report.name].outputs
    )
