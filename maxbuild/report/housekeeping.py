"""What the housekeeping of a store came to, as text and as content of documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from maxbuild.engine import Statistics
from maxbuild.engine.archive import Packed, Unpacked
from maxbuild.engine.audit import Audit, Damage
from maxbuild.engine.collect import Cause, Collected, Taken
from maxbuild.engine.holdings import KindShare
from maxbuild.engine.waste import Sort, Waste
from maxbuild.report.table import Cell, Column, table
from maxbuild.report.terminal import Style, Terminal
from maxbuild.report.units import plural, short, size
from maxbuild.report.words import one_line

_CAUSES = {
    Cause.KIND: "can be had again",
    Cause.AGE: "unused for too long",
    Cause.SIZE: "the store is too large",
}
_SORTS = {
    Sort.CONTENT: ("content", "no result names it"),
    Sort.REFERENCE: ("references", "no result names them"),
    Sort.ROW: ("unreadable results", "nobody can use them"),
    Sort.STAMP: ("notes of files", "the files are gone"),
    Sort.ROOT: ("notes of packages", "the packages are gone, or others"),
    Sort.QUARANTINE: ("damaged content", "it was set aside"),
    Sort.BROKEN_INDEX: ("broken indexes", "they were set aside"),
    Sort.SCRATCH: ("scratch folders", "their processes died"),
    Sort.LOG: ("logs", "old, and without a result"),
    Sort.JOURNAL: ("journals", "of runs long ago"),
}
_DAMAGES = {
    Damage.CONTENT: Style.RED,
    Damage.OUTSIDE: Style.RED,
    Damage.STRANGER: Style.YELLOW,
    Damage.ROW: Style.YELLOW,
    Damage.INCOMPLETE: Style.YELLOW,
}
_INFO_WIDTH = 13


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """What `cache info` tells; `sessions` is None where it cannot be known."""

    root: Path
    statistics: Statistics
    kinds: Sequence[KindShare]
    sessions: int | None
    packages: Sequence[Path]
    pinned: Sequence[str]


def info_text(facts: StoreFacts, terminal: Terminal) -> str:
    """Return what a store holds, one fact a line, and below it a line for each kind of result."""
    statistics = facts.statistics
    told = {
        "store": str(facts.root),
        "results": str(statistics.results),
        "blobs": f"{statistics.blobs} ({size(statistics.blob_bytes)})",
        "references": f"{statistics.references} (files outside the store, not copied)",
        "quarantined": plural(statistics.quarantined, "damaged blob"),
        "index": size(statistics.index_bytes),
        "logs": size(statistics.log_bytes),
        "in use by": "not known" if facts.sessions is None else plural(facts.sessions, "session"),
        "kept for": ", ".join([plural(len(facts.packages), "package"), plural(len(facts.pinned), "pinned run")]),
    }
    lines = [f"{name:<{_INFO_WIDTH}}{fact}" for name, fact in told.items()]
    if facts.kinds:
        rows = [[Cell(one_line(share.kind)), Cell(str(share.results)), Cell(size(share.size))] for share in facts.kinds]
        columns = (Column("kind"), Column("results", right=True), Column("content", right=True))
        lines += ["", table(columns, rows, terminal)]
    return "\n".join(lines)


# gc and prune


def collected_text(collected: Collected, terminal: Terminal, *, dry_run: bool, verbose: bool) -> str:
    """Return a table of what went, or would go, a line for each sort (`verbose`: for each thing), and the sums."""
    if not (collected.results or collected.waste):
        return f"nothing to let go of; {size(collected.kept)} of content stays"
    rows = _single_rows(collected) if verbose else _summed_rows(collected)
    columns = (
        Column("what", least=24, middle=True),
        Column("count", right=True),
        Column("size", right=True),
        Column("why", least=12),
    )
    return f"{table(columns, rows, terminal)}\n\n{_sums(collected, dry_run=dry_run)}"


def _summed_rows(collected: Collected) -> list[list[Cell]]:
    rows = []
    for cause in Cause:
        for kind in dict.fromkeys(taken.kind for taken in collected.results if taken.cause is cause):
            taken = [piece for piece in collected.results if (piece.kind, piece.cause) == (kind, cause)]
            rows.append(_row(f"{kind} results", taken, _CAUSES[cause]))
    for sort, (name, why) in _SORTS.items():
        waste = [piece for piece in collected.waste if piece.sort is sort]
        if waste:
            rows.append(_row(name, waste, why))
    return rows


def _single_rows(collected: Collected) -> list[list[Cell]]:
    rows = [
        [
            Cell(one_line(f"{taken.kind} {short(taken.key)}")),
            Cell(""),
            Cell(size(taken.size)),
            Cell(_CAUSES[taken.cause]),
        ]
        for taken in collected.results
    ]
    for piece in collected.waste:
        name, why = _SORTS[piece.sort]
        rows.append([Cell(one_line(f"{name}: {piece.name}")), Cell(""), Cell(size(piece.size)), Cell(why)])
    return rows


def _row(name: str, pieces: Sequence[Taken] | Sequence[Waste], why: str) -> list[Cell]:
    total = sum(piece.size for piece in pieces)
    return [Cell(one_line(name)), Cell(str(len(pieces))), Cell(size(total)), Cell(why, Style.DIM)]


def _sums(collected: Collected, *, dry_run: bool) -> str:
    verb = "would free" if dry_run else "freed"
    shared = collected.size - collected.freed
    more = f" ({size(shared)} more goes on in packages and other links)" if shared else ""
    return f"{verb} {size(collected.freed)}{more}; {size(collected.kept)} of content stays"


def collected_content(collected: Collected, *, dry_run: bool) -> dict[str, object]:
    """Return every single thing that went, or would go."""
    return {
        "dry_run": dry_run,
        "size": collected.size,
        "freed": collected.freed,
        "kept": collected.kept,
        "results": [asdict(taken) for taken in collected.results],
        "waste": [asdict(piece) for piece in collected.waste],
    }


# verify


def audit_text(audit: Audit, terminal: Terminal, *, set_aside: bool) -> str:
    """Return a table of what is wrong, and how much was read."""
    read = f"read {plural(audit.files, 'file')} ({size(audit.size)}) and {plural(audit.results, 'result')}"
    if not audit.findings:
        return f"{read}: all is well"
    columns = (Column("found", least=12), Column("where", least=24, middle=True), Column("detail", least=12))
    rows = [
        [
            Cell(str(finding.damage), _DAMAGES[finding.damage]),
            Cell(one_line(finding.name)),
            Cell(one_line(finding.detail), Style.DIM),
        ]
        for finding in audit.findings
    ]
    then = "the next `warm` makes it again" if set_aside else "the store is read-only: nothing was set aside"
    return f"{table(columns, rows, terminal)}\n\n{read}: found {plural(len(rows), 'problem')}; {then}"


def audit_content(audit: Audit, *, set_aside: bool) -> dict[str, object]:
    """Return every finding, and how much was read."""
    return {
        "files": audit.files,
        "size": audit.size,
        "results": audit.results,
        "set_aside": set_aside,
        "findings": [asdict(finding) for finding in audit.findings],
    }


# export and import


def packed_line(packed: Packed, file: str) -> str:
    """Return what an archive holds."""
    place = "stdout" if file == "-" else f"`{one_line(file)}`"
    return f"exported {plural(packed.results, 'result')} with {size(packed.size)} of content to {place}"


def unpacked_line(unpacked: Unpacked, file: str) -> str:
    """Return what an archive brought."""
    place = "stdin" if file == "-" else f"`{one_line(file)}`"
    told = f"imported {plural(unpacked.new_results, 'result')} from {place}"
    known = unpacked.results - unpacked.new_results
    return f"{told}, {known} were here before" if known else told
