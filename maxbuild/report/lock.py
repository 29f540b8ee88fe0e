"""What became of a lock, and how its revisions stand: for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from maxbuild.lock import Lock, LockedAddress, LockedFile, LockedRepository
from maxbuild.lock.difference import Change, FileChange, Kind
from maxbuild.report.table import Cell, Column, table
from maxbuild.report.terminal import Style, Terminal
from maxbuild.report.units import plural, size
from maxbuild.report.words import one_line

if TYPE_CHECKING:
    from maxbuild.pinning import Standing

_SHORT_COMMIT = 12
_MARKS = {Kind.PINNED: "+", Kind.MOVED: "~", Kind.COMPLETED: "~", Kind.REMOVED: "-"}
_FILE_MARKS = {"added": "+", "removed": "-", "changed": "~"}
_COLUMNS = (
    Column("revision", least=24, middle=True), Column("models"), Column("locked"), Column("now"), Column("state"),
)  # fmt: skip


def changes_text(changes: Sequence[Change], terminal: Terminal) -> str:
    """Return what is different, one entry a paragraph, the files of what moved below it."""
    return "\n".join(line for change in changes for line in _change_lines(change, terminal))


def changes_content(changes: Sequence[Change]) -> list[dict[str, object]]:
    """Return what is different for a JSON document."""
    return [
        {
            "name": change.name,
            "change": str(change.kind),
            "before": _identity(change.before),
            "after": _identity(change.after),
            "files": [_file_content(file) for file in change.files],
        }
        for change in changes
    ]


def standings_table(standings: Sequence[Standing], terminal: Terminal) -> str:
    """Return how each revision stands."""
    return table(
        _COLUMNS,
        [
            [
                Cell(one_line(f"{standing.repo_id}@{standing.revision}")),
                Cell(", ".join(standing.roles)),
                Cell(short_commit(standing.locked) if standing.locked else "-"),
                Cell(short_commit(standing.newest)),
                Cell(_state(standing), Style.YELLOW if standing.moved else Style.DIM),
            ]
            for standing in standings
        ],
        terminal,
    )


def standings_content(standings: Sequence[Standing]) -> list[dict[str, object]]:
    """Return how each revision stands for a JSON document."""
    return [
        {
            "repository": standing.repo_id,
            "revision": standing.revision,
            "roles": list(standing.roles),
            "locked": standing.locked,
            "newest": standing.newest,
            "state": _state(standing),
        }
        for standing in standings
    ]


def lock_summary(lock: Lock) -> str:
    """Return how much a lock pins, as in `2 revisions, 30 files`."""
    files = sum(len(repository.files) for repository in lock.repositories.values())
    parts = [plural(len(lock.repositories), "revision"), plural(files + len(lock.addresses), "file")]
    return ", ".join(parts)


def short_commit(commit: str) -> str:
    """Return the beginning of a commit, enough to tell two apart."""
    return commit[:_SHORT_COMMIT]


def _state(standing: Standing) -> str:
    if standing.locked is None:
        return "not locked"
    return "moved" if standing.moved else "up to date"


def _change_lines(change: Change, terminal: Terminal) -> list[str]:
    mark = terminal.paint(_MARKS[change.kind], _style(_MARKS[change.kind]))
    lines = [f"{mark} {one_line(change.name)}  {_what(change)}"]
    if change.kind is Kind.MOVED:
        for file in change.files:
            sign = _FILE_MARKS[file.word]
            lines.append(f"    {terminal.paint(sign, _style(sign))} {one_line(file.path)}  {_sizes(file)}")
    return lines


def _style(mark: str) -> Style:
    return {"+": Style.GREEN, "-": Style.RED}.get(mark, Style.YELLOW)


def _what(change: Change) -> str:
    match change.kind, change.before, change.after:
        case Kind.REMOVED, _, _:
            return "removed: no model names it any more"
        case Kind.PINNED, _, LockedRepository() as after:
            return f"pinned to {short_commit(after.commit)}: {_amount(after.files)}"
        case Kind.PINNED, _, LockedAddress() as after:
            return f"pinned to {short_commit(after.sha256)}: {size(after.size)}"
        case Kind.MOVED, LockedRepository() as before, LockedRepository() as after:
            return f"{short_commit(before.commit)} → {short_commit(after.commit)}: {_counts(change.files)}"
        case Kind.MOVED, LockedAddress() as before, LockedAddress() as after:
            sizes = f"{size(before.size)} → {size(after.size)}"
            return f"{short_commit(before.sha256)} → {short_commit(after.sha256)}: {sizes}"
    return "completed: more is known of its files, at the same commit"


def _amount(files: Sequence[LockedFile]) -> str:
    return f"{plural(len(files), 'file')}, {size(sum(file.size for file in files))}"


def _counts(files: Sequence[FileChange]) -> str:
    words = [file.word for file in files]
    counts = [f"{words.count(word)} {word}" for word in _FILE_MARKS if word in words]
    return ", ".join(counts) if counts else "no file is another"


def _sizes(file: FileChange) -> str:
    match file.before, file.after:
        case LockedFile() as before, LockedFile() as after:
            return size(after.size) if before.size == after.size else f"{size(before.size)} → {size(after.size)}"
        case LockedFile() as only, None:
            return size(only.size)
        case None, LockedFile() as only:
            return size(only.size)
    return ""


def _identity(entry: LockedRepository | LockedAddress | None) -> str | None:
    match entry:
        case LockedRepository():
            return entry.commit
        case LockedAddress():
            return entry.sha256
    return None


def _file_content(file: FileChange) -> dict[str, object]:
    sizes = {"before": file.before and file.before.size, "after": file.after and file.after.size}
    return {"path": file.path, "change": file.word, **sizes}
