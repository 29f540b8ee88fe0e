"""Names and shapes: which keys may stand where, and what their values are as plain Python values.

A key that does nothing is a problem with a way out: refused by name, misplaced, or unknown with the nearest valid name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from maxbuild.manifest.document import Document, Steps, Value, describe, plain
from maxbuild.manifest.nodes import Scalar
from maxbuild.manifest.options import (
    COMMAND_LINE,
    KNOWN_ROLES,
    RESERVED_ROLES,
    ROLE,
    ROLE_PATTERN,
    SECTIONS,
    TOP,
    Option,
    ValueType,
    find_anywhere,
    find_option,
    options_at,
)
from maxbuild.manifest.suggest import did_you_mean, nearest, normal

_ROLE_NAME = re.compile(ROLE_PATTERN)
_ANOTHER = re.compile("_[0-9]+$")
_TEXTUAL = {ValueType.TEXT, ValueType.CHOICE, ValueType.LIST}


@dataclass(frozen=True, slots=True)
class Sifted:
    """The values of effective options, by where they stand, typed as far as their fields say how to read a text."""

    top: dict[str, object] = field(default_factory=dict)
    models: dict[str, dict[str, object]] = field(default_factory=dict)
    sections: dict[str, dict[str, object]] = field(default_factory=dict)


def sift(document: Document) -> Sifted:
    """Return what `document` says by effective options; every other key of it becomes one of its problems."""
    top: dict[str, object] = {}
    models: dict[str, dict[str, object]] = {}
    sections: dict[str, dict[str, object]] = {}
    for key, value in document.root.items():
        if key == "models":
            models = _sift_models(document, value)
        elif key in SECTIONS:
            fields = _sift_section(document, key, value)
            if fields is not None:
                sections[key] = fields
        else:
            top |= _sift_field(document, TOP, (key,), value)
    return Sifted(top, models, sections)


def judge_key(place: str, key: str) -> tuple[str, str | None] | None:
    """Return what is wrong with `key` at `place` and the way out, or None for an effective option."""
    option = find_option(place, key)
    if option:
        return None if option.accepted else (f"option `{key}` is refused: {option.reason}", None)
    name = normal(key)
    here = options_at(place)
    names = [option.name for option in here if option.accepted] + (list(SECTIONS) if place == TOP else [])
    if find_option(place, name) or (place == TOP and name in SECTIONS):
        return f"unknown key `{key}`", f"did you mean `{name}`?"
    if place == TOP and name in KNOWN_ROLES:
        return f"role `{name}` belongs under models", None
    elsewhere = _judge_misplaced(name)
    if elsewhere:
        return elsewhere, None
    aliased = next((option.name for option in here if name in option.aliases), None)
    if aliased:
        return f"unknown key `{key}`", f"did you mean `{aliased}`?"
    hint = did_you_mean(name, names) or did_you_mean(name, (option.name for option in here))
    return f"unknown key `{key}`", hint or _hint_elsewhere(name)


def judge_role(role: str) -> tuple[str, str | None] | None:
    """Return what is wrong with `role` and the way out, or None for any name that no known one is meant by."""
    if _ANOTHER.sub("", role) in KNOWN_ROLES:
        return None
    if not _ROLE_NAME.fullmatch(role):
        hint = did_you_mean(role, KNOWN_ROLES)
        return f"`{role}` is no name for a role", hint or "a role is a small letter, then small letters, digits and `_`"
    if role in RESERVED_ROLES:
        return f"`{role}` is no name for a role: packages call another part of theirs so", None
    hint = did_you_mean(role, KNOWN_ROLES)
    return (f"unknown role `{role}`", hint) if hint else None


def typed(option: Option, value: Value) -> object:
    """Return `value` as the option's field reads it: a text as written, for any other type what it means.

    That keeps an all-digit revision, and a name like `no`, the text that it is.
    """
    if option.value_type not in _TEXTUAL:
        return plain(value)
    match value:
        case Scalar():
            return None if value.empty else value.text
        case list() if option.value_type is ValueType.LIST:
            return [item.text if isinstance(item, Scalar) and not item.empty else plain(item) for item in value]
        case _:
            return plain(value)


def _sift_models(document: Document, value: Value) -> dict[str, dict[str, object]]:
    if not isinstance(value, dict):
        _tell_shape(document, ("models",), value)
        return {}
    models = {}
    for role, fields in value.items():
        fault = judge_role(role)
        if fault:
            document.problems.append(document.key_place(("models", role)).problem(*fault))
        sifted = _sift_fields(document, ROLE, ("models", role), fields)
        if sifted is not None and not fault:
            models[role] = sifted
    return models


def _sift_fields(document: Document, place: str, steps: Steps, value: Value) -> dict[str, object] | None:
    """Return the fields of a section, None (and a problem) where it is no mapping."""
    if not isinstance(value, dict):
        _tell_shape(document, steps, value)
        return None
    fields: dict[str, object] = {}
    for key, item in value.items():
        fields |= _sift_field(document, place, (*steps, key), item)
    return fields


def _sift_field(document: Document, place: str, steps: Steps, value: Value) -> dict[str, object]:
    """Return the field at `steps` under its name, nothing where its key is wrong or its value says nothing."""
    key = str(steps[-1])
    fault = judge_key(place, key)
    if fault:
        document.problems.append(document.key_place(steps).problem(*fault))
        return {}
    option = find_option(place, key)
    assert option is not None
    result = typed(option, value)
    return {} if result is None else {key: result}


def _sift_section(document: Document, section: str, value: Value) -> dict[str, object] | None:
    """Return the fields of a section; one none of whose options is accepted is refused, by each name or as a whole."""
    if any(option.accepted for option in options_at(section)) or (isinstance(value, dict) and value):
        return _sift_fields(document, section, (section,), value)
    reason = options_at(section)[0].reason
    document.problems.append(document.key_place((section,)).problem(f"section `{section}` is refused: {reason}"))
    return None


def _tell_shape(document: Document, steps: Steps, value: Value) -> None:
    name = ".".join(map(str, steps))
    place = document.value_place(steps)
    document.problems.append(place.problem(f"`{name}` must be a mapping of keys to values, not {describe(value)}"))


def _judge_misplaced(name: str) -> str | None:
    """Say where an option belongs that stands in a place that is not its own."""
    if name in SECTIONS:
        return f"section `{name}` belongs at the top of the manifest"
    option = find_anywhere(name)
    if option:
        later = "" if option.accepted else f", and is refused: {option.reason}"
        return f"`{name}` belongs {_under(option.place)}{later}"
    of_draft = find_option(ROLE, name.removeprefix("draft_")) if name.startswith("draft_") else None
    if of_draft:
        later = "" if of_draft.accepted else f", and is refused: {of_draft.reason}"
        return f"`{name}` belongs under models.draft, as `{of_draft.name}`{later}"
    return None


def _under(place: str) -> str:
    if place == COMMAND_LINE:
        return f"on {place}"
    return f"under {place}" if place else "at the top of the manifest"


def _hint_elsewhere(name: str) -> str | None:
    for place in (TOP, ROLE, *SECTIONS):
        here = [option for option in options_at(place) if option.accepted]
        match = next((option.name for option in here if name in option.aliases), None)
        match = match or nearest(name, (option.name for option in here))
        if match:
            return f"did you mean `{match}`, {_under(place)}?"
    return None
