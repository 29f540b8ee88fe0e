"""A manifest's file as plain values, each of whose places is known: anything here can be pointed at.

Duplicate keys, merge keys and aliases are settled here, so that the rooms above see dictionaries, lists and scalars.
What other files and the command line say is put among the values of the manifest's own file, each with its own place.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from maxbuild.errors import ManifestError, Problem
from maxbuild.manifest.nodes import (
    DEEPEST,
    LINE_BREAK,
    MOST_NODES,
    Fault,
    Mapping,
    Node,
    Position,
    Scalar,
    Sequence,
    compose,
)
from maxbuild.manifest.tokens import masked

LARGEST_FILE: Final = 1 << 20

Steps = tuple[str | int, ...]
"""The way to a value: keys and list indices from the root."""

Value = Scalar | list["Value"] | dict[str, "Value"]


@dataclass(frozen=True, slots=True)
class Place:
    """Somewhere a person can look: a position in a file, or a word of the command line (then line and column are 0)."""

    file: str
    line: int = 0
    column: int = 0
    source: str = ""

    @property
    def folder(self) -> Path:
        """Return what a relative path said here is relative to: the file's folder, or where the command was typed."""
        return Path(self.file).parent if self.line else Path()

    def find(self, text: str) -> Path:
        """Return where `text`, a path said here, leads."""
        return self.folder / os.path.expanduser(text)  # noqa: PTH111 - it leaves alone a home that nobody has

    @property
    def name(self) -> str:
        """Return `file:line`, or the words of the command line."""
        return f"{self.file}:{self.line}" if self.line else self.file

    def problem(self, message: str, hint: str | None = None, causes: tuple[str, ...] = ()) -> Problem:
        """Return what is wrong here as a problem; no token that stands here is in it."""
        causes = tuple(masked(cause) for cause in causes)
        return Problem(masked(self.file), self.line, self.column, masked(message), masked(self.source), hint, causes)


@dataclass(slots=True)
class Document:
    """The values of one file, where each of them and each of their keys stands, and what was wrong on the way.

    `lines` is None where there is no file, and `file` is then what the values are said by. `origins` tells who said a
    value that the file does not say itself.
    """

    file: str
    lines: list[str] | None
    root: dict[str, Value] = field(default_factory=dict)
    values: dict[Steps, Place] = field(default_factory=dict)
    keys: dict[Steps, Place] = field(default_factory=dict)
    origins: dict[Steps, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def place(self, position: Position) -> Place:
        """Return the place at `position`, with the text of its line."""
        if self.lines is None:
            return Place(self.file)
        source = self.lines[position.line - 1] if position.line <= len(self.lines) else ""
        return Place(self.file, position.line, position.column, source)

    def mentions(self, text: str) -> bool:
        """Tell whether `text` stands anywhere in the file."""
        return any(text in line for line in self.lines or ())

    def copy(self) -> Document:
        """Return a document that can be changed without changing this one."""
        root = {key: _copy(value) for key, value in self.root.items()}
        known = (dict(self.values), dict(self.keys), dict(self.origins))
        return Document(self.file, self.lines, root, *known, list(self.problems))

    def origin(self, steps: Steps) -> str:
        """Return who said the value at `steps`."""
        return self.origins.get(steps, "manifest")

    def folders(self, steps: Steps) -> dict[str, Path]:
        """Return for each key of the mapping at `steps` that others than the file itself say, their folder."""
        return {
            str(said[-1]): self.value_place(said).folder
            for said in self.origins
            if len(said) == len(steps) + 1 and said[:-1] == steps
        }

    def put(self, steps: Steps, value: Value, place: Place, origin: str) -> None:
        """Put `value`, said at `place`, where `steps` lead, in place of what is there; mappings on the way are made.

        TypeError where something that is no mapping is on the way.
        """
        inner: Value = self.root
        for step in steps[:-1]:
            if not isinstance(inner, dict):
                raise TypeError(step)
            inner = inner.setdefault(str(step), {})
        if not isinstance(inner, dict):
            raise TypeError(steps[-2])
        inner[str(steps[-1])] = value
        for known in (self.values, self.keys, self.origins):
            for within in [known_steps for known_steps in known if known_steps[: len(steps)] == steps]:
                del known[within]
        self.values[steps] = self.keys[steps] = place
        self.origins[steps] = origin

    def value_place(self, steps: Steps) -> Place:
        """Return where the value at `steps` stands; for one that is missing, the key it is missing under."""
        if steps in self.values:
            return self.values[steps]
        while steps:
            steps = steps[:-1]
            if steps in self.keys:
                return self.keys[steps]
        return self.place(Position(1, 1))

    def key_place(self, steps: Steps) -> Place:
        """Return where the key at the end of `steps` stands."""
        return self.keys.get(steps) or self.value_place(steps)


def read_document(path: Path, what: str = "manifest") -> Document:
    """Read the file at `path`, which is to be a `what`; ManifestError when it holds not one YAML mapping in UTF-8."""
    text = _read_text(path, what)
    document = Document(str(path), LINE_BREAK.split(text))
    try:
        document.root = _Expansion(document).expand_root(_compose_mapping(text, what))
    except Fault as fault:
        problem = document.place(fault.position).problem(fault.message, fault.hint, fault.causes)
        raise ManifestError([problem]) from None
    return document


def parse_value(text: str, place: Place) -> Value | Problem:
    """Return the value that `text`, a piece of YAML said at `place`, stands for, or what is wrong with it there."""
    document = Document(place.file, None)
    try:
        node = compose(text)
        value = Scalar(Position(1, 1), "", plain=True) if node is None else _Expansion(document).expand(node, ())
    except Fault as fault:
        return place.problem(fault.message, fault.hint, fault.causes)
    return place.problem(document.problems[0].message) if document.problems else value


def plain(value: Value) -> object:
    """Return `value` with every scalar in it replaced by what it means where no field says otherwise."""
    match value:
        case Scalar():
            return value.value()
        case list():
            return [plain(item) for item in value]
        case _:
            return {key: plain(item) for key, item in value.items()}


def describe(value: object) -> str:
    """Return how a message calls a value: its text where it is one, else its kind."""
    match value:
        case Scalar():
            return describe(value.value())
        case Sequence() | list():
            return "a list"
        case Mapping() | dict():
            return "a mapping"
        case None:
            return "nothing"
        case bool():
            return f"`{str(value).lower()}`"
        case _:
            text = str(value)
            return f"`{text[:60]}…`" if len(text) > 60 else f"`{text}`"


def _copy(value: Value) -> Value:
    match value:
        case dict():
            return {key: _copy(item) for key, item in value.items()}
        case list():
            return [_copy(item) for item in value]
        case _:
            return value


def _compose_mapping(text: str, what: str) -> Mapping:
    """Return the mapping that `text` is; Fault when it is anything else."""
    root = compose(text)
    hint = "a manifest starts with `version: 1`" if what == "manifest" else None
    if root is None or (isinstance(root, Scalar) and root.empty):
        raise Fault(Position(1, 1), f"the {what} is empty", hint=hint)
    if not isinstance(root, Mapping):
        raise Fault(root.position, f"a {what} is a mapping of keys to values, not {describe(root)}", hint=hint)
    return root


class _Expansion:
    """Turns nodes into values, following aliases for as long as the bounds allow."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._left = MOST_NODES
        # A node that an alias repeats is walked once per use; what is wrong inside it is said once.
        self._told: set[Position] = set()

    def expand_root(self, root: Mapping) -> dict[str, Value]:
        """Return the value of the document's root and note where everything in it stands; Fault beyond the bounds."""
        self._document.values[()] = self._document.place(root.position)
        return self._expand_mapping(root, ())

    def expand(self, node: Node, steps: Steps) -> Value:
        """Return the value of `node`, which stands at `steps`; Fault beyond the bounds."""
        self._spend(node)
        if len(steps) > DEEPEST:
            raise Fault(node.position, f"nested deeper than {DEEPEST} levels once aliases are replaced")
        self._document.values[steps] = self._document.place(node.position)
        match node:
            case Scalar():
                return node
            case Sequence(items=items):
                return [self.expand(item, (*steps, index)) for index, item in enumerate(items)]
            case Mapping():
                return self._expand_mapping(node, steps)

    def _expand_mapping(self, node: Mapping, steps: Steps) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for key, item in self._entries(node, 0):
            inner = (*steps, key.text)
            self._document.keys[inner] = self._document.place(key.position)
            values[key.text] = self.expand(item, inner)
        return values

    def _entries(self, node: Mapping, depth: int) -> list[tuple[Scalar, Node]]:
        """Return the entries of `node` with merge keys resolved: its own first, then merged ones it lacks."""
        if depth > DEEPEST:
            raise Fault(node.position, f"merge keys nested deeper than {DEEPEST} levels")
        self._spend(node)
        own: dict[str, tuple[Scalar, Node]] = {}
        merged: list[Mapping] = []
        for key, item in node.entries:
            if key.plain and key.text == "<<":
                merged += self._mappings_of(item)
            elif key.text in own:
                first = own[key.text][0].position
                self._tell(key.position, f"key `{key.text}` is given twice", f"it is first given on line {first.line}")
            else:
                own[key.text] = (key, item)
        for other in merged:
            for key, item in self._entries(other, depth + 1):
                self._spend(node)
                own.setdefault(key.text, (key, item))
        return list(own.values())

    def _mappings_of(self, node: Node) -> list[Mapping]:
        items = node.items if isinstance(node, Sequence) else [node]
        mappings = [item for item in items if isinstance(item, Mapping)]
        if len(mappings) < len(items):
            self._tell(node.position, "`<<` takes a mapping, or a list of mappings", None)
        return mappings

    def _spend(self, node: Node) -> None:
        self._left -= 1
        if self._left < 0:
            raise Fault(node.position, f"more than {MOST_NODES} values once every alias is replaced by what it names")

    def _tell(self, position: Position, message: str, hint: str | None) -> None:
        if position not in self._told:
            self._told.add(position)
            self._document.problems.append(self._document.place(position).problem(message, hint))


def _read_text(path: Path, what: str) -> str:
    """Return the text of the file at `path`; ManifestError when it cannot be had."""
    place = Place(str(path))
    try:
        with path.open("rb") as stream:
            data = stream.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise ManifestError([place.problem(f"no such {what}")]) from None
    except IsADirectoryError:
        hint = f"name the {what} in it, for example {path}/{what.partition(' ')[0]}.yaml"
        raise ManifestError([place.problem(f"this is a folder, not a {what}", hint)]) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ManifestError([place.problem(f"cannot read the {what}", causes=(reason,))]) from None
    if len(data) > LARGEST_FILE:
        raise ManifestError([place.problem(f"larger than {LARGEST_FILE} bytes, so this is no {what}")])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        lines = LINE_BREAK.split(data[: error.start].decode("utf-8-sig", "replace"))
        where = Place(str(path), len(lines), len(lines[-1]) + 1)
        byte = data[error.start]
        raise ManifestError(
            [where.problem(f"not UTF-8: byte 0x{byte:02x} starts no character", "save the file as UTF-8")]
        ) from None
