"""Canonical JSON: one byte sequence per value, made by the one walk that also finds what differs between two values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from json.encoder import encode_basestring
from typing import NamedTuple, TypeAlias

JSON: TypeAlias = "bool | int | str | Sequence[JSON] | Mapping[str, JSON] | None"
"""A value that has a canonical form. Floats have none here: a plan spells them as text."""

Place: TypeAlias = "tuple[str | int, ...]"
"""Where a value stands in a document: names of members, numbers of items."""


class Token(NamedTuple):
    """One piece of canonical text. The pieces joined are the document; the leaves alone tell two documents apart."""

    place: Place
    text: str
    leaf: bool


def tokens(value: JSON, place: Place = ()) -> Iterator[Token]:
    """Walk `value` in canonical order (members sorted by code point).

    An empty array or object is a leaf, so that no two different values have the same leaves.
    Raises TypeError for a float, a member name that is not text, or anything else JSON does not know.
    """
    match value:
        case None:
            yield Token(place, "null", True)
        case bool():
            yield Token(place, "true" if value else "false", True)
        case int():
            yield Token(place, str(int(value)), True)
        case str():
            yield Token(place, encode_basestring(value), True)
        case Mapping():
            yield from _object_tokens(value, place)
        case list() | tuple():
            yield from _array_tokens(value, place)
        case _:
            kind = type(value).__name__
            raise TypeError(f"`{spell(place)}` is a {kind}, which has no canonical form; spell it as text")


def _object_tokens(value: Mapping[str, JSON], place: Place) -> Iterator[Token]:
    for name in value:
        if not isinstance(name, str):
            raise TypeError(f"`{spell(place)}` has a member named {name!r}; names are text")
    if not value:
        yield Token(place, "{}", True)
        return
    opening = "{"
    for name in sorted(value):
        yield Token(place, f"{opening}{encode_basestring(name)}:", False)
        yield from tokens(value[name], (*place, str(name)))
        opening = ","
    yield Token(place, "}", False)


def _array_tokens(value: Sequence[JSON], place: Place) -> Iterator[Token]:
    if not value:
        yield Token(place, "[]", True)
        return
    opening = "["
    for number, item in enumerate(value):
        yield Token(place, opening, False)
        yield from tokens(item, (*place, number))
        opening = ","
    yield Token(place, "]", False)


def canonical_json(value: JSON) -> bytes:
    """Return the canonical form of `value`: UTF-8, compact, members sorted.

    Raises TypeError for what has none (see `tokens`), UnicodeEncodeError for text that is not Unicode.
    """
    return "".join(token.text for token in tokens(value)).encode()


def leaves(value: JSON) -> dict[Place, str]:
    """Return the JSON text of every leaf of `value` by its place; equal exactly when the canonical forms are."""
    return {token.place: token.text for token in tokens(value) if token.leaf}


def spell(place: Place) -> str:
    """Return `place` as people write it: `params.layers.3`."""
    return ".".join(str(step) for step in place) or "the document"
