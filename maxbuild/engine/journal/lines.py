"""Reading the lines of journals; what is no line of one says nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from maxbuild.engine.canonical import JSON
from maxbuild.engine.digest import TaskKey
from maxbuild.engine.document import Document, key_of
from maxbuild.engine.explain import Explanation, explanations_from_json
from maxbuild.engine.report import State
from maxbuild.errors import MaxbuildError, from_json


@dataclass(frozen=True, slots=True)
class RunTask:
    """What became of one task in one run; `text` is the canonical form of its document, where the line has one."""

    name: str
    kind: str
    state: State
    key: TaskKey | None = None
    explanations: tuple[Explanation, ...] = ()
    seconds: float | None = None
    bytes: int | None = None
    error: MaxbuildError | None = None
    text: str | None = None

    @property
    def document(self) -> Document | None:
        """Return the document that the line holds, if it is one and that of the key."""
        try:
            return Document.from_text(self.text) if self.text is not None and key_of(self.text) == self.key else None
        except (ValueError, RecursionError):
            return None


def read_time(text: str) -> float:
    """Return the seconds since 1970 of what `spell_time` returned; ValueError when it is no time."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"a time without its zone: {text!r}")
    return moment.timestamp()


def parse(line: bytes) -> dict[str, Any]:
    """Return what a line says; nothing where it is no JSON object."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def read_task(line: Mapping[str, Any]) -> RunTask | None:
    """Make what the line of a task says; None where it is none."""
    try:
        return _read_task(line)
    except (ValueError, TypeError, AttributeError):
        return None


def _read_task(line: Mapping[str, Any]) -> RunTask:
    match line:
        case {"task": str(name), "kind": str(kind), "state": str(state), "key": None | str() as key}:
            return RunTask(
                name,
                kind,
                State(state),
                None if key is None else TaskKey(key),
                explanations_from_json(line.get("reasons", ())),
                _number(line.get("seconds")),
                _whole(line.get("bytes")),
                from_json(line["error"]) if "error" in line else None,
                _text(line.get("document")),
            )
    raise ValueError("not the line of a task")


def read_counts(value: JSON) -> dict[str, int]:
    """Return how many tasks came to which state, as far as `value` says so."""
    counts = value if isinstance(value, dict) else {}
    return {state: count for state, count in counts.items() if state in set(State) and type(count) is int}


def _number(value: object) -> float | None:
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return None if value is None else float(value)
    raise ValueError("not a number")


def _whole(value: object) -> int | None:
    if value is None or type(value) is int:
        return value
    raise ValueError("not a whole number")


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise ValueError("not text")
