"""What travels between a build and a worker: an errand one way, an answer the other, each one text of JSON.

An errand holds nothing of the host it comes from but the address of the remote cache: no paths, no credentials, and
nothing of a task's `local`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from maxbuild.engine.digest import Digest, TaskKey
from maxbuild.engine.document import Document
from maxbuild.engine.remote import RemoteOutput
from maxbuild.errors import MaxbuildError, TaskFailed, from_json

SCHEMA = 1
"""Of errands and answers; a change to either is another number."""

_SAME = "install the same maxbuild on all workers and where the build runs"


@dataclass(frozen=True, slots=True)
class Errand:
    """One step for a worker.

    `document` says what the task is, `key` what the sender takes its hash to be, `name` what to call it in messages.
    `sizes` are the bytes of each input by role. `run` and `toolchain` name functions ("package.module:function"), as in
    the task's kind. `url` and `instance` say where the remote cache lies.
    """

    name: str
    key: TaskKey
    document: Document
    sizes: Mapping[str, int]
    run: str
    toolchain: str
    url: str
    instance: str

    def to_text(self) -> str:
        """Return the errand as JSON."""
        return json.dumps(
            {
                "schema": SCHEMA,
                "name": self.name,
                "key": self.key,
                "document": self.document.text,
                "sizes": dict(self.sizes),
                "run": self.run,
                "toolchain": self.toolchain,
                "remote": {"url": self.url, "instance": self.instance},
            }
        )

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Make the errand that `to_text` returned; TaskFailed when another maxbuild wrote it or understands it."""
        match json.loads(text):
            case {
                "schema": schema,
                "name": str(name),
                "key": str(key),
                "document": str(document),
                "sizes": dict(sizes),
                "run": str(run),
                "toolchain": str(toolchain),
                "remote": {"url": str(url), "instance": str(instance)},
                **rest,
            } if schema == SCHEMA and not rest:
                errand = cls(name, TaskKey(key), _document(document), sizes, run, toolchain, url, instance)
                if errand.document.key() != errand.key:
                    raise _refusal("the task's document has another key here")
                return errand
            case {"schema": int(schema)} if schema != SCHEMA:
                raise _refusal(f"it understands errands of schema {SCHEMA}, and this one has schema {schema}")
        raise _refusal("it does not understand the errand")


def _document(text: str) -> Document:
    try:
        return Document.from_text(text)
    except ValueError as error:
        raise _refusal(f"it does not understand the task's document: {error}") from error


def _refusal(why: str) -> TaskFailed:
    return TaskFailed("a worker has another version of maxbuild than the build", causes=[why], hint=_SAME)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an errand: `outputs`, which lie in the remote cache, or an `error`; what was printed; by whom."""

    worker: str
    log: str
    outputs: Mapping[str, RemoteOutput] | None = None
    error: MaxbuildError | None = None

    def to_text(self) -> str:
        """Return the answer as JSON."""
        answer: dict[str, object] = {"schema": SCHEMA, "worker": self.worker, "log": self.log}
        if self.outputs is not None:
            answer["outputs"] = {name: [output.digest, output.size] for name, output in self.outputs.items()}
        if self.error is not None:
            answer["error"] = self.error.to_json()
        return json.dumps(answer)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Make the answer that `to_text` returned; ValueError when `text` is none."""
        match json.loads(text):
            case {"schema": 1, "worker": str(worker), "log": str(log), "outputs": dict(outputs)}:
                return cls(worker, log, outputs={name: _output(value) for name, value in outputs.items()})
            case {"schema": 1, "worker": str(worker), "log": str(log), "error": error}:
                return cls(worker, log, error=from_json(error))
        raise ValueError("not an answer")


def _output(value: object) -> RemoteOutput:
    match value:
        case [str(digest), int(size)] if size >= 0:
            return RemoteOutput(Digest(digest), size)
    raise ValueError("not an output")
