"""The final values of a manifest, each with who had the last word on it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from maxbuild.manifest import Manifest
from maxbuild.report.table import Cell, Column, table
from maxbuild.report.terminal import Style, Terminal
from maxbuild.report.words import one_line

_COLUMNS = (Column("value"), Column("is", least=24), Column("from"))


class FinalValue(NamedTuple):
    """One value: its name as in `role.field`, what it is, and `default`, `manifest`, `override#2` or `flag`."""

    name: str
    value: object
    origin: str


def final_values(manifest: Manifest) -> tuple[FinalValue, ...]:
    """Return every value of `manifest`, in the order in which it tells their origins."""
    return tuple(
        FinalValue(name, _look_up(manifest, name.split(".")), origin) for name, origin in manifest.origins.items()
    )


def _look_up(manifest: Manifest, name: Sequence[str]) -> object:
    match name:
        case ["speculative", field]:
            found = getattr(manifest.speculative, field)
        case [role, field]:
            found = getattr(manifest.models[role], field)
        case _:
            found = getattr(manifest, name[0])
    return str(found) if isinstance(found, Enum) else list(found) if isinstance(found, tuple) else found


def values_table(rows: Sequence[FinalValue], terminal: Terminal) -> str:
    """Return the values as a table; defaults stand back."""
    return table(
        _COLUMNS,
        [
            [
                Cell(row.name),
                Cell(_text(row.value)),
                Cell(row.origin, Style.DIM if row.origin == "default" else Style.PLAIN),
            ]
            for row in rows
        ],
        terminal,
    )


def _text(value: object) -> str:
    match value:
        case None:
            return "unset"
        case str():
            return one_line(value)
        case list():
            return ", ".join(_text(item) for item in value)
        case _:
            return json.dumps(value)


def values_content(rows: Sequence[FinalValue]) -> list[dict[str, object]]:
    """Return the values for a JSON document."""
    return [{"name": row.name, "value": row.value, "origin": row.origin} for row in rows]
