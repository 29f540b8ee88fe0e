"""YAML text to nodes with positions, within bounds: no input takes more than so many nodes or so deep a stack.

Scalars keep their text as written, because what a text means (`12345678`, `no`) depends on the field that it is for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import yaml

DEEPEST: Final = 32
MOST_NODES: Final = 10_000

# libyaml is much faster, and absent from some builds of PyYAML. Only its event stream is used: its composer recurses
# on the C stack, where some thousands of opening brackets end the process.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# YAML 1.1 breaks lines at these too, and so must we, for a line number to mean the same line.
LINE_BREAK: Final = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
_WHOLE_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
# A number with a point or an exponent; YAML's `.inf` and `.nan` are values of no option.
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]{1,3})?")
_CONSTANTS: Final = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_CORE: Final = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the text; line and column count from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Scalar:
    """A text as written; `plain` where it stood without quotes and may thus mean a number or a truth value."""

    position: Position
    text: str
    plain: bool

    def value(self) -> str | int | float | bool | None:
        """Return what the text means by the core schema of YAML 1.2, which has no `yes` and no octal `012`."""
        if not self.plain:
            return self.text
        if self.text in _CONSTANTS:
            return _CONSTANTS[self.text]
        if _WHOLE_NUMBER.fullmatch(self.text):
            return int(self.text)
        number = float(self.text) if _NUMBER.fullmatch(self.text) else math.inf
        return number if math.isfinite(number) else self.text

    @property
    def empty(self) -> bool:
        """Tell whether nothing is said here (`key:`, `~`, `null`)."""
        return self.value() is None


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list of nodes."""

    position: Position
    items: list[Node]


@dataclass(frozen=True, slots=True)
class Mapping:
    """Keys with their nodes, in the order of the text, duplicates and merge keys included."""

    position: Position
    entries: list[tuple[Scalar, Node]]


Node = Scalar | Sequence | Mapping


class Fault(Exception):
    """Something wrong at a position, not yet tied to a file."""

    def __init__(
        self, position: Position, message: str, *, hint: str | None = None, causes: tuple[str, ...] = ()
    ) -> None:
        """Keep the parts; the reader of the file makes a problem of them."""
        super().__init__(message)
        self.position = position
        self.message = message
        self.hint = hint
        self.causes = causes


def compose(text: str) -> Node | None:
    """Return the root node of the one document in `text`, None where there is none; Fault where it is no such thing."""
    stray = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if stray:
        raise Fault(
            _position_of(text, stray.start()), f"the character U+{ord(stray[0]):04X} cannot stand in a YAML file"
        )
    builder = _Builder()
    try:
        for event in _events(text):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        raise _syntax_fault(error, text) from None
    except yaml.YAMLError as error:
        raise Fault(Position(1, 1), f"not valid YAML: {error}") from None
    return builder.root


def _events(text: str) -> Iterator[yaml.Event]:
    # Both types of mark and both parsers carry the same attributes; the stubs know only one of them.
    return yaml.parse(text, Loader=_Loader)


class _Builder:
    """Makes nodes of events without recursion."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self._open: list[Sequence | Mapping] = []
        self._keys: list[Scalar | None] = []
        self._anchors: dict[str, Node] = {}
        self._count = 0

    def take(self, event: yaml.Event) -> None:
        """Take the next event; Fault where it leads out of what a manifest may hold."""
        match event:
            case yaml.AliasEvent():
                self._add(self._aliased(event), _start(event))
            case yaml.ScalarEvent():
                self._add(self._anchored(event, _scalar(event)), _start(event))
            case yaml.SequenceStartEvent():
                self._begin(event, Sequence(_start(event), []))
            case yaml.MappingStartEvent():
                self._begin(event, Mapping(_start(event), []))
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                self._open.pop()
                self._keys.pop()
            case yaml.DocumentStartEvent() if self.root is not None:
                raise Fault(_start(event), "a manifest is one YAML document, and here a second one starts")
            case _:
                pass

    def _begin(self, event: yaml.SequenceStartEvent | yaml.MappingStartEvent, node: Sequence | Mapping) -> None:
        if event.tag not in {None, "!", _CORE + "seq", _CORE + "map"}:
            raise Fault(_start(event), f"the YAML tag `{event.tag}` has no meaning in a manifest")
        if len(self._open) >= DEEPEST:
            raise Fault(node.position, f"nested deeper than {DEEPEST} levels")
        self._add(self._anchored(event, node), node.position)
        self._open.append(node)
        self._keys.append(None)

    def _anchored(self, event: yaml.NodeEvent, node: Node) -> Node:
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _aliased(self, event: yaml.AliasEvent) -> Node:
        node = self._anchors.get(event.anchor or "")
        if node is None:
            raise Fault(_start(event), f"no anchor `&{event.anchor}` stands before this")
        if any(node is container for container in self._open):
            raise Fault(_start(event), f"`*{event.anchor}` stands inside its own anchor")
        return node

    def _add(self, node: Node, position: Position) -> None:
        self._count += 1
        if self._count > MOST_NODES:
            raise Fault(position, f"more than {MOST_NODES} values")
        if not self._open:
            self.root = node
            return
        match self._open[-1]:
            case Sequence(items=items):
                items.append(node)
            case Mapping(entries=entries):
                key = self._keys[-1]
                if key is not None:
                    entries.append((key, node))
                    self._keys[-1] = None
                elif isinstance(node, Scalar):
                    self._keys[-1] = Scalar(position, node.text, node.plain)
                else:
                    raise Fault(position, "a key must be a word, not a list or a mapping")


def _scalar(event: yaml.ScalarEvent) -> Scalar:
    if event.tag not in {None, "!", _CORE + "str"}:
        raise Fault(_start(event), f"the YAML tag `{event.tag}` has no meaning in a manifest")
    return Scalar(_start(event), event.value, plain=event.tag is None and not event.style and event.implicit[0])


def _start(event: yaml.Event) -> Position:
    assert event.start_mark is not None
    return Position(event.start_mark.line + 1, event.start_mark.column + 1)


def _position_of(text: str, index: int) -> Position:
    lines = LINE_BREAK.split(text[:index])
    return Position(len(lines), len(lines[-1]) + 1)


def _syntax_fault(error: yaml.MarkedYAMLError, text: str) -> Fault:
    mark = error.problem_mark or error.context_mark
    position = Position(mark.line + 1, mark.column + 1) if mark else Position(1, 1)
    causes: tuple[str, ...] = ()
    if error.context and error.context_mark and error.context_mark.line + 1 != position.line:
        causes = (f"{error.context} that begins on line {error.context_mark.line + 1}",)
    lines = LINE_BREAK.split(text)
    at = lines[position.line - 1][position.column - 1 :] if position.line <= len(lines) else ""
    hint = None
    if at.startswith("\t"):
        hint = "indent with blanks, not with tabs"
    elif "mapping values are not allowed" in (error.problem or ""):
        hint = "put a text that holds `: ` in quotes, and keys of one mapping in one column"
    return Fault(position, f"not valid YAML: {error.problem or error.context}", hint=hint, causes=causes)
