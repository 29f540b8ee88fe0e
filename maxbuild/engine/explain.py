"""Explanations: why a task runs. They come from the walk that makes the key, so the two cannot disagree."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any, NamedTuple, Self

from maxbuild.engine.canonical import JSON, Place, spell
from maxbuild.engine.document import Document


class Reason(StrEnum):
    """Why a task runs. The set is closed."""

    NEW = "new"
    """No task of this name was ever carried out in this scope."""
    PARAM = "param"
    """A parameter, or the set of outputs, is another."""
    TOOLCHAIN = "toolchain"
    """What carries the task out is another version."""
    INPUT = "input"
    """An input holds other content."""
    EVICTED = "evicted"
    """The same work was done before, and what it left is gone."""
    CORRUPT = "corrupt"
    """The same work was done before, and what it left is damaged."""
    FORCED = "forced"
    """It was asked for."""


_REASON_OF_SECTION = {
    "params": Reason.PARAM,
    "kind": Reason.PARAM,
    "outputs": Reason.PARAM,
    "inputs": Reason.INPUT,
    "toolchain": Reason.TOOLCHAIN,
    "schema": Reason.TOOLCHAIN,
}
_REASONS = {str(reason): reason for reason in Reason}
_MISSING: Any = object()
_BARE_SECTIONS = {"params", "inputs", "toolchain"}


class Explanation(NamedTuple):
    """One cause of a run: what is different, from what to what; None where there was or is nothing."""

    reason: Reason
    what: str
    old: str | None = None
    new: str | None = None

    def to_json(self) -> dict[str, JSON]:
        """Return the explanation as a JSON value."""
        return {"reason": str(self.reason), "what": self.what, "old": self.old, "new": self.new}

    @classmethod
    def from_json(cls, value: JSON) -> Self:
        """Make the explanation that `to_json` returned; ValueError when `value` is none."""
        # Plain look-ups, not a pattern: a null build reads one or more of these for every task.
        if isinstance(value, dict):
            reason, what = value.get("reason"), value.get("what")
            old, new = value.get("old", _MISSING), value.get("new", _MISSING)
            if type(reason) is str and type(what) is str and _is_text_or_none(old) and _is_text_or_none(new):
                return cls(_REASONS.get(reason) or Reason(reason), what, old, new)
        raise ValueError("not an explanation")


def _is_text_or_none(value: object) -> bool:
    return value is None or type(value) is str


def explanations_to_json(explanations: Iterable[Explanation]) -> list[JSON]:
    """Return `explanations` as a JSON value."""
    return [explanation.to_json() for explanation in explanations]


def explanations_from_json(value: Sequence[JSON]) -> tuple[Explanation, ...]:
    """Make the explanations that `explanations_to_json` returned; ValueError when `value` holds anything else."""
    return tuple([Explanation.from_json(item) for item in value])


def compare(old: Document, new: Document) -> tuple[Explanation, ...]:
    """Return every difference between two documents; none exactly when their keys are equal."""
    before, after = old.leaves(), new.leaves()
    places = [place for place in (before | after) if before.get(place) != after.get(place)]
    return tuple(_difference(place, before.get(place), after.get(place)) for place in places)


def _difference(place: Place, old: str | None, new: str | None) -> Explanation:
    section = str(place[0])
    bare = section in _BARE_SECTIONS and len(place) > 1
    old_text, new_text = _plain(old), _plain(new)
    if old_text == new_text:  # the number 1 became the text "1", say
        old_text, new_text = old, new
    return Explanation(_REASON_OF_SECTION[section], spell(place[1:] if bare else place), old_text, new_text)


def _plain(text: str | None) -> str | None:
    """Return JSON text without the quotes, where it is a string."""
    return json.loads(text) if text is not None and text.startswith('"') else text
