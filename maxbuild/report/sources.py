"""Which files the models of a plan are made of, and which of those that lie beside them are left, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from maxbuild.choice import InRepository
from maxbuild.lock import LockedAddress
from maxbuild.report.terminal import Style, Terminal
from maxbuild.report.units import plural, size
from maxbuild.report.words import one_line
from maxbuild.weights.selection import THE_REST

if TYPE_CHECKING:
    from maxbuild.choice import Choice
    from maxbuild.plan.components import Component

_MOST_NAMED = 2
_SHORT_COMMIT = 12


def sources_text(components: Sequence[Component], terminal: Terminal) -> str:
    """Return for each model that is fetched how much is taken from where, and what is left aside; empty without any."""
    lines: list[str] = []
    for component in components:
        choice = component.choice
        if all(isinstance(place, Path) for place in choice.places.values()):
            continue
        taken = [name for name in choice.places if not isinstance(choice.places[name], Path)]
        lines.append(f"{component.role}: {_amount(taken, choice)} from {_origins(choice)}")
        for reason, names in _aside(choice).items():
            if reason != THE_REST:
                text = f"  left aside: {_amount(names, choice)}, {reason} ({_named(names)})"
                lines.append(terminal.paint(text, Style.DIM))
    return "\n".join(dict.fromkeys(lines))


def sources_content(components: Sequence[Component]) -> list[dict[str, object]]:
    """Return for each model every file with its place, and every one left aside with the reason, for a document."""
    return [
        {
            "role": component.role,
            "files": [
                {"name": name, "bytes": component.choice.sizes[name], **_place(place)}
                for name, place in component.choice.places.items()
            ],
            "left_aside": [
                {"name": name, "bytes": component.choice.sizes.get(name, 0), "reason": reason}
                for name, reason in (component.choice.files.aside or {}).items()
            ],
        }
        for component in components
    ]


def _place(place: object) -> Mapping[str, object]:
    match place:
        case InRepository(repository, file):
            return {"repository": repository.repo_id, "commit": repository.commit, "path": file.path}
        case LockedAddress(url):
            return {"url": url}
        case Path():
            return {"path": str(place)}
    raise TypeError(place)


def _aside(choice: Choice) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, reason in (choice.files.aside or {}).items():
        found.setdefault(reason, []).append(name)
    return found


def _amount(names: Sequence[str], choice: Choice) -> str:
    return f"{plural(len(names), 'file')}, {size(sum(choice.sizes.get(name, 0) for name in names))}"


def _origins(choice: Choice) -> str:
    found: dict[str, None] = {}
    for place in choice.places.values():
        if isinstance(place, InRepository):
            repository = place.repository
            found[f"{repository.name} ({repository.commit[:_SHORT_COMMIT]})"] = None
        elif isinstance(place, LockedAddress):
            found[place.url] = None
    return ", ".join(one_line(text) for text in found)


def _named(names: Iterable[str]) -> str:
    listed = sorted(names)
    more = ", …" if len(listed) > _MOST_NAMED else ""
    return ", ".join(f"`{one_line(name)}`" for name in listed[:_MOST_NAMED]) + more
