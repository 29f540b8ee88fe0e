"""Documents: the canonical description of a task, and the key that is its hash.

Inputs are held by role as content digests, never as keys of what made them: that is what gives early cutoff.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self, cast

from maxbuild.engine.canonical import JSON, Place, canonical_json, leaves
from maxbuild.engine.digest import Digest, TaskKey
from maxbuild.engine.task import Task

SCHEMA = 1
_fast_encode = json.JSONEncoder(ensure_ascii=False, check_circular=False, sort_keys=True, separators=(",", ":")).encode
_DOMAIN = b"maxbuild.task.v1\0"


@dataclass(frozen=True)
class Document:
    """What a task is, without names, places and times. Two tasks with equal documents are the same work."""

    kind: str
    params: Mapping[str, JSON]
    inputs: Mapping[str, Digest]
    toolchain: Mapping[str, str]
    outputs: tuple[str, ...]
    schema: int = SCHEMA

    @classmethod
    def of(cls, task: Task, inputs: Mapping[str, Digest]) -> Self:
        """Describe `task`, whose inputs hold the contents `inputs`, by role."""
        return cls(task.kind, task.params, inputs, task.toolchain, tuple(sorted(task.outputs)))

    @classmethod
    def from_json(cls, value: JSON) -> Self:
        """Make the document that `to_json` returned; ValueError when `value` is none."""
        match value:
            case {
                "schema": int(schema),
                "kind": str(kind),
                "params": Mapping() as params,
                "inputs": Mapping() as inputs,
                "toolchain": Mapping() as toolchain,
                "outputs": list() as outputs,
                **rest,
            } if not rest:
                return cls(
                    kind,
                    params,
                    {role: Digest(cast("str", digest)) for role, digest in inputs.items()},
                    cast("Mapping[str, str]", toolchain),
                    tuple(cast("list[str]", outputs)),
                    schema,
                )
        raise ValueError("not a task document")

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Make the document whose canonical form is `text`; ValueError when it is not that of a document."""
        document = cls.from_json(json.loads(text))
        if document.text != text:
            raise ValueError("not the canonical form of a task document")
        return document

    def to_json(self) -> dict[str, JSON]:
        """Return the document as a JSON value."""
        return {
            "schema": self.schema,
            "kind": self.kind,
            "params": self.params,
            "inputs": self.inputs,
            "toolchain": self.toolchain,
            "outputs": self.outputs,
        }

    @cached_property
    def text(self) -> str:
        """Return the canonical form; TypeError when a parameter has none."""
        return canonical_json(self.to_json()).decode()

    def key(self) -> TaskKey:
        """Return the key; TypeError when a parameter has no canonical form."""
        return key_of(self.text)

    def is_spelled(self, text: str) -> bool:
        """Return whether `text`, a canonical form, is that of this document.

        It takes a third of the time of the walk, and no more than that: what the json module spells alike, the walk
        spells alike, but for member names that are not text, which it refuses.
        """
        try:
            return _fast_encode(self.to_json()) == text
        except (TypeError, ValueError):
            return False

    def __hash__(self) -> int:
        """Return a hash of the canonical form: equal documents have one."""
        return hash(self.text)

    def leaves(self) -> dict[Place, str]:
        """Return what the same walk finds at every place; two documents have one key exactly when these are equal."""
        return leaves(self.to_json())


def key_of(text: str) -> TaskKey:
    """Return the key of the document whose canonical form is `text`; UnicodeEncodeError when it is not Unicode."""
    return TaskKey(hashlib.sha256(_DOMAIN + text.encode()).hexdigest())
