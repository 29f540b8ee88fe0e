"""What packages hold, as tables and as content of documents; targets stand side by side, region by region."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from maxbuild.inspect.checks import Check, Outcome
from maxbuild.inspect.kernel import Kernel
from maxbuild.inspect.package import Inspection
from maxbuild.inspect.region import Region
from maxbuild.report.inspect_kernels import KernelLine, kernel_line, kernels_text
from maxbuild.report.table import Cell, Column, table
from maxbuild.report.terminal import Style, Terminal
from maxbuild.report.units import plural
from maxbuild.report.words import one_line

_REGION_COLUMNS = (
    Column("region", least=16, middle=True),
    Column("target", least=10),
    Column("file bytes", right=True),
    Column("library bytes", right=True),
    Column("library needs"),
    Column("kernels", right=True),
    Column("kernel bytes", right=True),
    Column("ptx bytes", right=True),
    Column("warnings", right=True),
)
_OUTCOMES = {
    Outcome.FAILED: ("failed", Style.RED),
    Outcome.UNCHECKED: ("not checked", Style.YELLOW),
}


def inspection_text(inspections: Sequence[Inspection], terminal: Terminal, *, kernels: bool) -> str:
    """Return what the packages hold, a line per region or kernel and target, then warnings and checks; sizes in bytes.

    kernels: a table of kernels in place of that of regions, for packages that have any.
    """
    labels = labels_of(inspections)
    parts = ["\n".join(map(_headline, inspections))]
    if kernels and any(region.kernels for inspection in inspections for region in inspection.regions):
        parts.append(kernels_text(_kernel_lines(inspections, labels), terminal))
    else:
        parts.append(table(_REGION_COLUMNS, _region_rows(inspections, labels), terminal))
    findings = [*_warnings(inspections, labels, terminal), *_problems(inspections, labels, terminal)]
    parts += ["\n".join(findings)] if findings else []
    parts.append(_tally(inspections))
    return "\n\n".join(parts)


def labels_of(inspections: Sequence[Inspection]) -> list[str]:
    """Return what tells the packages apart: their targets, with the folder where several are for the same."""
    counts = Counter(inspection.target for inspection in inspections)
    return [one_line(i.target if counts[i.target] == 1 else f"{i.target} {i.folder}") for i in inspections]


def _headline(inspection: Inspection) -> str:
    count = sum(len(region.kernels) for region in inspection.regions)
    device = f" ({inspection.device.name})" if inspection.device else ""
    facts = [plural(len(inspection.regions), "region"), plural(count, "kernel") if inspection.device else ""]
    facts.append(f"{sum(region.size for region in inspection.regions)} bytes")
    return one_line(f"{inspection.folder}: {inspection.target}{device}, " + ", ".join(fact for fact in facts if fact))


def _regions(inspections: Sequence[Inspection], labels: Sequence[str]) -> Iterator[tuple[str, str, Region]]:
    """Yield region name, label and region, sorted so that the same region of several packages comes together."""
    rows = [
        (region.names[0], place, ", ".join(region.names), region)
        for place, inspection in enumerate(inspections)
        for region in inspection.regions
    ]
    for _, place, names, region in sorted(rows, key=lambda row: row[:2]):
        yield one_line(names), labels[place], region


def _region_rows(inspections: Sequence[Inspection], labels: Sequence[str]) -> list[list[Cell]]:
    return [
        [
            Cell(names),
            Cell(label),
            Cell(str(region.size)),
            Cell(str(region.wrapper.size) if region.wrapper else ""),
            Cell(_level(region)),
            Cell(str(len(region.kernels) or "")),
            Cell(str(region.kernel_bytes or "")),
            Cell(str(region.ptx_bytes or "")),
            Cell(str(len(region.warnings) or ""), Style.YELLOW),
        ]
        for names, label, region in _regions(inspections, labels)
    ]


def _level(region: Region) -> str:
    wrapper = region.wrapper
    if wrapper is None or wrapper.level is None:
        return "not known"
    return f"{wrapper.level}{' by its metadata' if wrapper.level_by_header else ''}"


def _kernel_lines(inspections: Sequence[Inspection], labels: Sequence[str]) -> list[KernelLine]:
    places = {label: place for place, label in enumerate(labels)}
    found = [
        (names, kernel.launch.name, places[label], kernel)
        for names, label, region in _regions(inspections, labels)
        for kernel in region.kernels
    ]
    return [
        kernel_line(names, kernel, labels[place], inspections[place])
        for names, _, place, kernel in sorted(found, key=lambda row: row[:3])
    ]


def _warnings(inspections: Sequence[Inspection], labels: Sequence[str], terminal: Terminal) -> Iterator[str]:
    for inspection, label in zip(inspections, labels, strict=True):
        for warned in inspection.warnings:
            about = one_line(f"{label} {warned.subject}: {warned.text}")
            yield f"{terminal.paint('warning:', Style.YELLOW)} {about}"


def _problems(inspections: Sequence[Inspection], labels: Sequence[str], terminal: Terminal) -> Iterator[str]:
    """Yield what failed, then what could not be checked; equal words for several regions once."""
    for outcome, (word, style) in _OUTCOMES.items():
        told: dict[tuple[str, str, str], list[Check]] = {}
        for inspection, label in zip(inspections, labels, strict=True):
            for check in inspection.with_outcome(outcome):
                told.setdefault((label, check.name, check.detail), []).append(check)
        for (label, name, detail), checks in told.items():
            more = f" and {len(checks) - 1} more" if len(checks) > 1 else ""
            about = one_line(f"{label} {checks[0].subject}{more}: {name}: {detail}")
            yield f"{terminal.paint(f'{word}:', style)} {about}"


def _tally(inspections: Sequence[Inspection]) -> str:
    counts = Counter(check.outcome for inspection in inspections for check in inspection.checks)
    words = {Outcome.PASSED: "passed", Outcome.UNCHECKED: "not checked", Outcome.FAILED: "failed"}
    return "checks: " + ", ".join(f"{counts[outcome]} {word}" for outcome, word in words.items())


def inspection_content(inspections: Sequence[Inspection]) -> dict[str, object]:
    """Return all that was found, for a JSON document."""
    return {"packages": [_package_content(inspection) for inspection in inspections]}


def _package_content(inspection: Inspection) -> dict[str, object]:
    return {
        "package": str(inspection.folder),
        "name": inspection.name,
        "target": inspection.target,
        "device": None if inspection.device is None else inspection.device.name,
        "regions": [_region_content(region) for region in inspection.regions],
        "checks": [asdict(check) for check in inspection.checks],
        "warnings": [asdict(warned) for warned in inspection.warnings],
    }


def _region_content(region: Region) -> dict[str, object]:
    return {
        "names": list(region.names),
        "path": region.path,
        "bytes": region.size,
        "ptx_bytes": region.ptx_bytes,
        "wrapper": None if region.wrapper is None else asdict(region.wrapper),
        "kernels": [_kernel_content(kernel) for kernel in region.kernels],
    }


def _kernel_content(kernel: Kernel) -> dict[str, object]:
    return {
        **asdict(kernel.launch),
        "bytes": kernel.size,
        "shared_memory_per_block": kernel.shared_memory,
        "usage": None if kernel.usage is None else asdict(kernel.usage),
        "instructions": None
        if kernel.mix is None
        else {**{name.rstrip("_"): count for name, count in asdict(kernel.mix).items()}, "total": kernel.mix.total},
    }
