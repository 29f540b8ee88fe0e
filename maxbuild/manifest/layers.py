"""Layers: what one file says, laid under what is said above it.

Mappings are laid together key by key, at every depth; anything else that is said above replaces what lies under it,
lists as a whole. Every value keeps its place in its own file, and with that what its relative paths are relative to.
"""

from __future__ import annotations

from dataclasses import dataclass

from maxbuild.manifest.document import Document, Place, Steps, Value
from maxbuild.manifest.nodes import Scalar


@dataclass(frozen=True, slots=True)
class Layer:
    """The mapping that `document` has at `steps`; `word` begins the origin of what is said there."""

    document: Document
    steps: Steps
    word: str

    def origin(self, place: Place) -> str:
        """Return how the origin of what stands at `place` is called."""
        return f"{self.word} {place.name}"


def lay_under(
    document: Document, steps: Steps, upper: dict[str, Value], layer: Layer, lower: dict[str, Value]
) -> list[Steps]:
    """Put into `upper`, which `document` has at `steps`, what `lower` says beside it.

    Return where `upper` has a key with nothing after it over something.
    """
    covered: list[Steps] = []
    for key, value in lower.items():
        above = upper.get(key)
        inner = Layer(layer.document, (*layer.steps, key), layer.word)
        if key not in upper:
            upper[key] = _take_over(document, (*steps, key), inner, value)
        elif isinstance(above, dict) and isinstance(value, dict):
            covered += lay_under(document, (*steps, key), above, inner, value)
        elif isinstance(above, Scalar) and above.empty:
            covered.append((*steps, key))
    return covered


def _take_over(document: Document, steps: Steps, layer: Layer, value: Value) -> Value:
    """Return a copy of `value`, and let `document` know where everything in it stands."""
    source = layer.document
    place = source.value_place(layer.steps)
    document.values[steps], document.keys[steps] = place, source.key_place(layer.steps)
    document.origins[steps] = source.origins.get(layer.steps) or layer.origin(place)

    def inner(step: str | int, item: Value) -> Value:
        return _take_over(document, (*steps, step), Layer(source, (*layer.steps, step), layer.word), item)

    match value:
        case dict():
            return {key: inner(key, item) for key, item in value.items()}
        case list():
            return [inner(index, item) for index, item in enumerate(value)]
        case _:
            return value
