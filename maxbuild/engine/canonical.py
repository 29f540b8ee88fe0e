"""Canonical JSON: one byte sequence per value, made by the one walk that also finds what differs between two values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from json.encoder import encode_basestring
from typing import TypeAlias

JSON: TypeAlias = "bool | int | str | Sequence[JSON] | Mapping[str, JSON] | None"
"""A value that has a canonical form. Floats have none here: a plan spells them as text."""

Place: TypeAlias = "tuple[str | int, ...]"
"""Where a value stands in a document: names of members, numbers of items."""

_Way: TypeAlias = "tuple[_Way, str | int] | None"
"""A place as the walk keeps it, the last step first: one step more costs one pair, however deep it is."""

_Leaf: TypeAlias = Callable[[_Way, str], None]


def _walk(value: JSON, way: _Way, text: list[str], leaf: _Leaf) -> None:
    """Walk `value` in canonical order (members sorted by code point): its text to `text`, each leaf's to `leaf` too.

    An empty array or object is a leaf, so that no two different values have the same leaves.
    """
    if isinstance(value, str):
        told = encode_basestring(value)
    elif value is None:
        told = "null"
    elif isinstance(value, bool):
        told = "true" if value else "false"
    elif isinstance(value, int):
        told = str(int(value))
    elif isinstance(value, Mapping):
        if value:
            _walk_object(value, way, text, leaf)
            return
        told = "{}"
    elif isinstance(value, list | tuple):
        if value:
            _walk_array(value, way, text, leaf)
            return
        told = "[]"
    else:
        kind = type(value).__name__
        raise TypeError(f"`{spell(_place(way))}` is a {kind}, which has no canonical form; spell it as text")
    text.append(told)
    leaf(way, told)


def _walk_object(value: Mapping[str, JSON], way: _Way, text: list[str], leaf: _Leaf) -> None:
    for name in value:
        if not isinstance(name, str):
            raise TypeError(f"`{spell(_place(way))}` has a member named {name!r}; names are text")
    opening = "{"
    for name in sorted(value):
        text.append(f"{opening}{encode_basestring(name)}:")
        _walk(value[name], (way, name), text, leaf)
        opening = ","
    text.append("}")


def _walk_array(value: Sequence[JSON], way: _Way, text: list[str], leaf: _Leaf) -> None:
    opening = "["
    for number, item in enumerate(value):
        text.append(opening)
        _walk(item, (way, number), text, leaf)
        opening = ","
    text.append("]")


def canonical_json(value: JSON) -> bytes:
    """Return the canonical form of `value`: UTF-8, compact, members sorted.

    Raises TypeError for a float, a member name that is not text, or anything else JSON does not know, and
    UnicodeEncodeError for text that is not Unicode.
    """
    text: list[str] = []
    _walk(value, None, text, _forget)
    return "".join(text).encode()


def leaves(value: JSON) -> dict[Place, str]:
    """Return the JSON text of every leaf of `value` by its place; equal exactly when the canonical forms are."""
    found: dict[Place, str] = {}

    def note(way: _Way, told: str) -> None:
        found[_place(way)] = told

    _walk(value, None, [], note)
    return found


def spell(place: Place) -> str:
    """Return `place` as people write it: `params.layers.3`."""
    return ".".join(str(step) for step in place) or "the document"


def _place(way: _Way) -> Place:
    steps = []
    while way is not None:
        way, step = way
        steps.append(step if isinstance(step, int) else str(step))
    return tuple(reversed(steps))


def _forget(_way: _Way, _told: str) -> None:
    """Take no notice of a leaf: its text is all that is wanted."""
