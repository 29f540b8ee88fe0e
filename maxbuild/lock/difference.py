"""What is different between two locks: entries that came, went or moved, and the files of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from maxbuild.lock.contents import Lock, LockedAddress, LockedFile, LockedRepository


class Kind(StrEnum):
    """What became of an entry."""

    PINNED = "pinned"
    """It was not in the lock."""
    MOVED = "moved"
    """Its revision means another commit, or other content lies at its address."""
    COMPLETED = "completed"
    """More is known of the same commit."""
    REMOVED = "removed"
    """No model names it any more."""


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file that is not the same before and after; None where it was or is not there."""

    path: str
    before: LockedFile | None
    after: LockedFile | None

    @property
    def word(self) -> str:
        """Return what became of it: `added`, `removed` or `changed`."""
        return "added" if self.before is None else "removed" if self.after is None else "changed"


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of a lock that is not the same before and after."""

    name: str
    kind: Kind
    before: LockedRepository | LockedAddress | None
    after: LockedRepository | LockedAddress | None
    files: tuple[FileChange, ...] = ()
    """Of a repository that moved: the files whose content is another."""


def compare_locks(before: Lock | None, after: Lock) -> Sequence[Change]:
    """Return what is different, repositories first, each in the order of the names."""
    changes: list[Change] = []
    old: dict[str, LockedRepository | LockedAddress] = {**(before.repositories if before else {})}
    new: dict[str, LockedRepository | LockedAddress] = {**after.repositories}
    changes += _compare(old, new)
    old_addresses: dict[str, LockedRepository | LockedAddress] = {**(before.addresses if before else {})}
    new_addresses: dict[str, LockedRepository | LockedAddress] = {**after.addresses}
    return [*changes, *_compare(old_addresses, new_addresses)]


def _compare(
    old: dict[str, LockedRepository | LockedAddress], new: dict[str, LockedRepository | LockedAddress]
) -> list[Change]:
    changes = []
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if before != after:
            changes.append(_change(name, before, after))
    return changes


def _change(
    name: str, before: LockedRepository | LockedAddress | None, after: LockedRepository | LockedAddress | None
) -> Change:
    if before is None:
        return Change(name, Kind.PINNED, before, after)
    if after is None:
        return Change(name, Kind.REMOVED, before, after)
    if isinstance(before, LockedRepository) and isinstance(after, LockedRepository):
        kind = Kind.COMPLETED if before.commit == after.commit else Kind.MOVED
        return Change(name, kind, before, after, tuple(_files(before, after)))
    return Change(name, Kind.MOVED, before, after)


def _files(before: LockedRepository, after: LockedRepository) -> list[FileChange]:
    old, new = ({file.path: file for file in each.files} for each in (before, after))
    changes = [FileChange(path, old.get(path), new.get(path)) for path in sorted(old.keys() | new.keys())]
    return [c for c in changes if c.before is None or c.after is None or not c.before.same_content(c.after)]
