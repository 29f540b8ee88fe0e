"""Which values of a manifest enter which documents: read off the option table, and nowhere else decided.

A value that is the default is left out, so that a new option changes no key of a manifest that does not set it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from typing import Final

from maxbuild.engine import JSON
from maxbuild.manifest import Manifest, Option, TaskKind
from maxbuild.manifest.fields import Section
from maxbuild.manifest.options import ROLE, SECTIONS, SPECULATIVE, State, options_at

# What shapes how tokens are accepted is in documents of its own: another strategy must not trace the models again.
_SECTIONS_OF_MODELS: Final = tuple(section for section in SECTIONS if section != SPECULATIVE)


def parameters(manifest: Manifest, role: str, kind: TaskKind) -> dict[str, JSON]:
    """Return by name what the component under `role` has to say in documents of `kind`.

    Values of the model stand under their names, those of a section at the top under the section's.
    """
    sections = {section: section_parameters(manifest, section, kind) for section in _SECTIONS_OF_MODELS}
    return {**_values(ROLE, manifest.models[role], kind), **{name: said for name, said in sections.items() if said}}


def section_parameters(manifest: Manifest, section: str, kind: TaskKind, api: str | None = None) -> dict[str, JSON]:
    """Return by name what `section` has to say in documents of `kind`; api: leave out what is for other APIs."""
    return _values(section, getattr(manifest, section, None), kind, api)


def serving_options(manifest: Manifest) -> dict[str, JSON]:
    """Return what packages hand on to a server, where it stands in the manifest: by section, or under `models.ROLE`."""
    models = {role: _carried(ROLE, model) for role, model in manifest.models.items()}
    sections: dict[str, dict[str, JSON]] = {
        "models": {role: said for role, said in models.items() if said},
        **{section: _carried(section, getattr(manifest, section, None)) for section in SECTIONS},
    }
    return {section: said for section, said in sections.items() if said}


def document_value(value: object) -> JSON:
    """Return `value` as documents hold it, in which there are no floats.

    A number with a point is decimal text. A mapping is JSON text as a whole: what it means is the model's or the
    server's business, who could not tell decimal text from text.
    """
    match value:
        case Enum():
            return str(value.value)
        case None | bool() | int() | str():
            return value
        case float():
            return format(Decimal(repr(value)), "f")
        case Mapping():
            return json.dumps(value, sort_keys=True, default=dict)  # a frozen mapping is no dict
        case Sequence():
            return [document_value(item) for item in value]
        case _:
            raise TypeError(f"no document can hold a {type(value).__name__}")


def _values(place: str, section: Section | None, kind: TaskKind, api: str | None = None) -> dict[str, JSON]:
    return {
        option.name: document_value(value)
        for option, value in _said(place, section)
        if kind in option.kinds and option.effective and not option.by_content and option.concerns(api)
    }


def _carried(place: str, section: Section | None) -> dict[str, JSON]:
    return {
        option.name: document_value(value) for option, value in _said(place, section) if option.state is State.CARRIED
    }


def _said(place: str, section: Section | None) -> Iterator[tuple[Option, object]]:
    """Yield the options at `place` whose value is another than the default."""
    for option in options_at(place) if section is not None else ():
        value = getattr(section, option.name, option.default)
        if value != option.default:
            yield option, value
