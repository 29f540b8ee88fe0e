"""The final values of a manifest, each with who had the last word on it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import NamedTuple

from maxbuild.manifest import Manifest
from maxbuild.report.table import Cell, Column, table
from maxbuild.report.terminal import Style, Terminal
from maxbuild.report.words import one_line

_COLUMNS = (Column("value"), Column("is", least=24), Column("from"))


class FinalValue(NamedTuple):
    """One value: its name as in `role.field`, what it is, and who said it: `default`, `manifest`, `override#2`, ….

    `variant` is which variant has it, where a matrix makes several and not all have the same.
    """

    name: str
    value: object
    origin: str
    variant: str = ""

    @property
    def title(self) -> str:
        """Return the name, and the variant behind it."""
        return f"{self.name} [{self.variant}]" if self.variant else self.name


def final_values(manifest: Manifest) -> tuple[FinalValue, ...]:
    """Return every value of `manifest` and its variants, in the order in which it tells their origins."""
    variants = manifest.variants or (manifest,)
    rows: list[FinalValue] = []
    for name in dict.fromkeys(name for variant in variants for name in variant.origins):
        found = [
            FinalValue(name, _look_up(variant, name.split(".")), variant.origins[name], variant.variant)
            for variant in variants
            if name in variant.origins
        ]
        if len(found) == len(variants) and all(row[1:3] == found[0][1:3] for row in found):
            found = [found[0]._replace(variant="")]
        rows += found
    return tuple(rows)


def _look_up(manifest: Manifest, name: Sequence[str]) -> object:
    match name:
        case [role, field] if role in manifest.models:
            found = getattr(manifest.models[role], field)
        case [section, field]:
            found = getattr(getattr(manifest, section), field)
        case _:
            found = getattr(manifest, name[0])
    return _plain(found)


def _plain(value: object) -> object:
    match value:
        case Enum():
            return str(value)
        case tuple():
            return list(value)
        case Mapping():
            return dict(value)
        case _:
            return value


def values_table(rows: Sequence[FinalValue], terminal: Terminal) -> str:
    """Return the values as a table; defaults stand back."""
    return table(
        _COLUMNS,
        [
            [
                Cell(row.title),
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
            return ", ".join(_text(item) for item in value) or "none"
        case _:
            return json.dumps(value)


def values_content(rows: Sequence[FinalValue]) -> list[dict[str, object]]:
    """Return the values for a JSON document."""
    return [
        {
            "name": row.name,
            "value": row.value,
            "origin": row.origin,
            **({"variant": row.variant} if row.variant else {}),
        }
        for row in rows
    ]
