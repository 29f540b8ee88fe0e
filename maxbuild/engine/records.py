"""Records: what the index keeps about work, and how it is read back; a row that is no record counts as absent.

A record keeps its document as canonical text: its hash is proof enough that it answers a key, and it is parsed only
when somebody asks what changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Self

from maxbuild.engine.canonical import JSON
from maxbuild.engine.digest import Digest, TaskKey
from maxbuild.engine.document import Document, key_of
from maxbuild.engine.explain import Explanation, explanations_from_json, explanations_to_json


class Result(NamedTuple):
    """What a task left: its outputs by name, with the members of families spelled out."""

    outputs: Mapping[str, Digest]


class Record(NamedTuple):
    """A result with the document it answers, the seconds it took, the bytes it holds and why it was made."""

    key: TaskKey
    """The hash of the document."""
    text: str
    """The canonical form of the document."""
    result: Result
    seconds: float
    size: int
    reasons: Sequence[JSON]
    """The explanations as JSON values: only who asks why wants more of them."""
    stamps: Mapping[str, JSON]
    """By output, what the files of the store's own were when the result was put down: a shorter way than the memo."""

    @classmethod
    def of(cls, text: str, result: Result, seconds: float, size: int, explanations: Iterable[Explanation] = ()) -> Self:
        """Make the record of the `result` of the work whose document has the canonical form `text`."""
        return cls(key_of(text), text, result, seconds, size, explanations_to_json(explanations), {})

    @property
    def explanations(self) -> tuple[Explanation, ...]:
        """Return why the result was made; nothing where the row holds no explanations."""
        try:
            return explanations_from_json(self.reasons)
        except (ValueError, TypeError):
            return ()

    @property
    def document(self) -> Document:
        """Return the document; ValueError when the text is that of none."""
        return Document.from_text(self.text)

    def to_json(self) -> dict[str, JSON | float]:
        """Return the record as a JSON value."""
        return {
            "document": self.text,
            "outputs": self.result.outputs,
            "seconds": self.seconds,
            "bytes": self.size,
            "explanations": self.reasons,
        }

    @classmethod
    def from_json(cls, value: JSON) -> Self:
        """Make the record that `to_json` returned; ValueError or TypeError when `value` is none."""
        # Plain look-ups, not a pattern: a null build reads one of these for every task.
        if isinstance(value, dict):
            text, outputs, seconds = value.get("document"), value.get("outputs"), value.get("seconds")
            size, reasons = value.get("bytes"), value.get("explanations")
            if (
                isinstance(text, str)
                and isinstance(outputs, dict)
                and isinstance(seconds, int | float)
                and isinstance(size, int)
                and isinstance(reasons, list)
            ):
                result = Result({name: Digest(digest) for name, digest in outputs.items()})
                stamps = value.get("stamps")
                known = stamps if isinstance(stamps, dict) else {}
                return cls(key_of(text), text, result, seconds, size, reasons, known)
        raise ValueError("not the record of a result")


class Last(NamedTuple):
    """The newest document under a task's name in a scope, and why it ran; no explanation where it was found done."""

    text: str
    """The canonical form of the document."""
    explanations: tuple[Explanation, ...]

    @property
    def key(self) -> TaskKey:
        """Return the key of the document."""
        return key_of(self.text)

    @property
    def document(self) -> Document:
        """Return the document; ValueError when the text is that of none."""
        return Document.from_text(self.text)

    def to_json(self) -> dict[str, JSON]:
        """Return the record as a JSON value."""
        return {"document": self.text, "explanations": explanations_to_json(self.explanations)}

    @classmethod
    def from_json(cls, value: JSON) -> Self:
        """Make the record that `to_json` returned; ValueError or TypeError when `value` is none."""
        match value:
            case {"document": str(text), "explanations": list() as explanations}:
                return cls(text, explanations_from_json(explanations))
        raise ValueError("not the last document of a task")
