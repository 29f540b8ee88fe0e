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

_Leaf: TypeAlias = "Callable[[_Way, str], None] | None"


def _walk(value: JSON, way: _Way, leaf: _Leaf) -> str:
    """Return the canonical text of `value` (members sorted by code point), and tell `leaf` each leaf on the way.

    An empty array or object is a leaf, so that no two different values have the same leaves.
    """
    if isinstance(value, str):
        text = encode_basestring(value)
    elif (type(value) is dict or isinstance(value, Mapping)) and value:  # to ask an abstract class takes long
        return _walk_object(value, way, leaf)
    elif isinstance(value, list | tuple) and value:
        return f"[{','.join([_walk(item, (way, number), leaf) for number, item in enumerate(value)])}]"
    else:
        text = _plain(value, way)
    if leaf is not None:
        leaf(way, text)
    return text


def _walk_object(value: Mapping[str, JSON], way: _Way, leaf: _Leaf) -> str:
    for name in value:
        if not isinstance(name, str):
            raise TypeError(f"`{spell(_place(way))}` has a member named {name!r}; names are text")
    members = [f"{encode_basestring(name)}:{_walk(value[name], (way, name), leaf)}" for name in sorted(value)]
    return f"{{{','.join(members)}}}"


def _plain(value: JSON, way: _Way) -> str:
    """Return the text of a value that holds no others and is no string."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(int(value))
        case Mapping():
            return "{}"
        case list() | tuple():
            return "[]"
    kind = type(value).__name__
    raise TypeError(f"`{spell(_place(way))}` is a {kind}, which has no canonical form; spell it as text")


def canonical_json(value: JSON) -> bytes:
    """Return the canonical form of `value`: UTF-8, compact, members sorted.

    Raises TypeError for a float, a member name that is not text, or anything else JSON does not know, and
    UnicodeEncodeError for text that is not Unicode.
    """
    return _walk(value, None, None).encode()


def leaves(value: JSON) -> dict[Place, str]:
    """Return the JSON text of every leaf of `value` by its place; equal exactly when the canonical forms are."""
    found: dict[Place, str] = {}

    def note(way: _Way, told: str) -> None:
        found[_place(way)] = told

    _walk(value, None, note)
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
