"""The colours of the kinds of tasks, the same in every picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ink:
    """The colours of one kind: what fills its boxes, and their edge and the arrows that leave them."""

    fill: str
    edge: str


_INKS: Mapping[str, Ink] = {
    "download": Ink("#e8f1fd", "#3b82d6"),
    "load": Ink("#e3f6f3", "#149083"),
    "trace": Ink("#f0eafc", "#7c53c9"),
    "compile": Ink("#fef0e1", "#d9791b"),
    "package": Ink("#e7f6e6", "#3d9a3a"),
}
_OTHER = Ink("#eef0f3", "#6b7683")


def ink_of(kind: str) -> Ink:
    """Return the colours of `kind`, grey ones where it has none of its own."""
    return _INKS.get(kind, _OTHER)
