"""The targets: what they are, and what this host can build and run of them; as text and as content of documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from maxbuild.report.table import Cell, Column, table
from maxbuild.report.terminal import Style, Terminal
from maxbuild.report.words import one_line
from maxbuild.targets.devices import Device
from maxbuild.targets.host import Found
from maxbuild.targets.parts import Part
from maxbuild.targets.sources import FIGURES, Source
from maxbuild.targets.spelling import Target

_COLUMNS = (
    Column("target"),
    Column("product", least=10),
    Column("SM/CU", right=True),
    Column("shared memory", right=True),
    Column("memory", right=True),
    Column("warp", right=True),
    Column("builds"),
    Column("runs"),
)
_SOURCE_COLUMNS = (
    Column("target"),
    Column("figure"),
    Column("value", right=True),
    Column("compared"),
    Column("source", least=20),
)


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """One target: its device and where the figures are from (a GPU's), and what this host makes of it."""

    target: Target
    device: Device | None
    sources: Mapping[str, Source]
    missing: Sequence[Part]
    runs: bool


def targets_text(targets: Sequence[TargetFacts], host: Sequence[Found], terminal: Terminal) -> str:
    """Return a line for each target, then what this host is, then how to get what is missing to build."""
    lines = [table(_COLUMNS, [_row(facts) for facts in targets], terminal), ""]
    lines += [*(one_line(str(found)) for found in host), *_missing_lines(targets)]
    return "\n".join(lines)


def _row(facts: TargetFacts) -> list[Cell]:
    device = facts.device
    sizes = [""] * 5
    if device is not None:
        shared, memory = _binary(device.shared_memory_per_block), _binary(device.memory)
        sizes = [device.name, str(device.multiprocessors), shared, memory, str(device.warp_size)]
    return [
        Cell(facts.target.spelling),
        *map(Cell, sizes),
        _answer(yes=not facts.missing),
        _answer(yes=facts.runs),
    ]


def _answer(*, yes: bool) -> Cell:
    return Cell("yes", Style.GREEN) if yes else Cell("no", Style.DIM)


def _missing_lines(targets: Sequence[TargetFacts]) -> Iterator[str]:
    """Yield for each missing part who needs it, why, and how to get it."""
    parts = dict.fromkeys(part for facts in targets for part in facts.missing)
    for part in parts:
        apis = dict.fromkeys(facts.target.api for facts in targets if part in facts.missing)
        yield ""
        yield f"missing to build for {', '.join(f'`{api}`' for api in apis)}: {part.name}; {part.why}"
        yield f"  {part.install_hint}"


def sources_text(targets: Sequence[TargetFacts], terminal: Terminal) -> str:
    """Return a line for each figure of each GPU: its value, its source, and whether it was compared with that."""
    rows = [
        [
            Cell(facts.target.spelling),
            Cell(figure),
            Cell(_figure(getattr(facts.device, figure))),
            Cell("yes") if source.checked else Cell("no", Style.YELLOW),
            Cell(f"{source.title}: {source.section}"),
        ]
        for facts in targets
        for figure, source in facts.sources.items()
    ]
    return table(_SOURCE_COLUMNS, rows, terminal)


def _figure(value: int | tuple[int, int]) -> str:
    return str(value) if isinstance(value, int) else ".".join(map(str, value))


def _binary(count: int) -> str:
    """Return a size of a device as its vendor gives it, in powers of 1024."""
    return f"{count >> 30} GiB" if count >= 1 << 30 else f"{count >> 10} KiB"


def targets_content(targets: Sequence[TargetFacts], host: Sequence[Found]) -> dict[str, object]:
    """Return what there is to know of each target, and what this host has of each API."""
    return {
        "host": {found.api: {"archs": list(found.archs), "reason": found.reason} for found in host},
        "targets": [_content(facts) for facts in targets],
    }


def _content(facts: TargetFacts) -> dict[str, object]:
    device = facts.device
    return {
        "target": facts.target.spelling,
        "builds": not facts.missing,
        "missing": [asdict(part) for part in facts.missing],
        "runs": facts.runs,
        "device": None if device is None else {"name": device.name} | {name: getattr(device, name) for name in FIGURES},
        "sources": {figure: asdict(source) for figure, source in facts.sources.items()},
    }
