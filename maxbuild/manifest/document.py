"""A manifest's file as plain values, each of whose places is known: anything here can be pointed at.

Duplicate keys, merge keys and aliases are settled here, so that the rooms above see dictionaries, lists and scalars.
"""

from __future__ import annotations

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

    def problem(self, message: str, hint: str | None = None, causes: tuple[str, ...] = ()) -> Problem:
        """Return what is wrong here as a problem."""
        return Problem(self.file, self.line, self.column, message, self.source, hint, causes)


@dataclass(slots=True)
class Document:
    """The values of one file, where each of them and each of their keys stands, and what was wrong on the way."""

    file: str
    lines: list[str]
    root: dict[str, Value] = field(default_factory=dict)
    values: dict[Steps, Place] = field(default_factory=dict)
    keys: dict[Steps, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def place(self, position: Position) -> Place:
        """Return the place at `position`, with the text of its line."""
        source = self.lines[position.line - 1] if position.line <= len(self.lines) else ""
        return Place(self.file, position.line, position.column, source)

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


def read_document(path: Path) -> Document:
    """Read the manifest at `path`; ManifestError when it is not a file that holds one YAML mapping in UTF-8."""
    text = _read_text(path)
    document = Document(str(path), LINE_BREAK.split(text))
    try:
        document.root = _Expansion(document).expand_root(_compose_mapping(text))
    except Fault as fault:
        problem = document.place(fault.position).problem(fault.message, fault.hint, fault.causes)
        raise ManifestError([problem]) from None
    return document


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


def _compose_mapping(text: str) -> Mapping:
    """Return the mapping that `text` is; Fault when it is anything else."""
    root = compose(text)
    hint = "a manifest starts with `version: 1`"
    if root is None or (isinstance(root, Scalar) and root.empty):
        raise Fault(Position(1, 1), "the manifest is empty", hint=hint)
    if not isinstance(root, Mapping):
        raise Fault(root.position, f"a manifest is a mapping of keys to values, not {describe(root)}", hint=hint)
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

    def _expand(self, node: Node, steps: Steps) -> Value:
        self._spend(node)
        if len(steps) > DEEPEST:
            raise Fault(node.position, f"nested deeper than {DEEPEST} levels once aliases are replaced")
        self._document.values[steps] = self._document.place(node.position)
        match node:
            case Scalar():
                return node
            case Sequence(items=items):
                return [self._expand(item, (*steps, index)) for index, item in enumerate(items)]
            case Mapping():
                return self._expand_mapping(node, steps)

    def _expand_mapping(self, node: Mapping, steps: Steps) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for key, item in self._entries(node, 0):
            inner = (*steps, key.text)
            self._document.keys[inner] = self._document.place(key.position)
            values[key.text] = self._expand(item, inner)
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


def _read_text(path: Path) -> str:
    """Return the text of the file at `path`; ManifestError when it cannot be had."""
    place = Place(str(path))
    try:
        with path.open("rb") as stream:
            data = stream.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise ManifestError([place.problem("no such manifest")]) from None
    except IsADirectoryError:
        hint = f"name the manifest in it, for example {path}/manifest.yaml"
        raise ManifestError([place.problem("this is a folder, not a manifest", hint)]) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ManifestError([place.problem("cannot read the manifest", causes=(reason,))]) from None
    if len(data) > LARGEST_FILE:
        raise ManifestError([place.problem(f"larger than {LARGEST_FILE} bytes, so this is no manifest")])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        lines = LINE_BREAK.split(data[: error.start].decode("utf-8-sig", "replace"))
        where = Place(str(path), len(lines), len(lines[-1]) + 1)
        byte = data[error.start]
        raise ManifestError(
            [where.problem(f"not UTF-8: byte 0x{byte:02x} starts no character", "save the file as UTF-8")]
        ) from None
