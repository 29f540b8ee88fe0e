"""The errors people see: one root, what each means, how each is written, how one crosses to another process.

MaxbuildError           1   root; something this program knows how to explain failed
├─ UsageError           2   the command was asked for something it cannot mean
│  └─ ManifestError     2   one or more problems, each at a place in a manifest
├─ TaskFailed           1   a task of the graph failed
├─ UnsupportedModel     1   an architecture that cannot be outlined
├─ WeightsError         1   weight files that cannot be read or do not fit the model
├─ PackageError         1   a package that is broken, or not for this host
├─ WorkFound            3   `--check` or `--frozen` found work to do
└─ StoreError           4   the store or the disk under it
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

_WIDEST_SOURCE_LINE = 100


class MaxbuildError(Exception):
    """An error that names what failed, why (one cause per link), and the way out."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, causes: Iterable[str] = (), hint: str | None = None) -> None:
        """Keep the parts apart; `render` puts them together."""
        super().__init__(message)
        self.message = message
        self.causes = tuple(causes)
        self.hint = hint

    def __str__(self) -> str:
        """Return what failed and why, on one line, as a log would want it."""
        return ": ".join((self.message, *self.causes))

    def blocks(self) -> tuple[str, ...]:
        """Return the text a person reads, one block per problem, without a trailing newline."""
        return (_block(self.message, self.causes, (), self.hint),)

    def to_json(self) -> dict[str, object]:
        """Return a JSON value from which `from_json` makes an equal error in another process."""
        return {
            "class": type(self).__name__,
            "message": self.message,
            "causes": list(self.causes),
            "hint": self.hint,
        }

    @classmethod
    def parse_json(cls, value: Mapping[str, object]) -> Self:
        """Make an error of this class from what its `to_json` returned; ValueError when it is not that."""
        return cls(
            _text(value, "message"),
            causes=[_as_text("causes", cause) for cause in _list(value, "causes")],
            hint=_optional_text(value, "hint"),
        )


class UsageError(MaxbuildError):
    """The command was asked for something it cannot mean."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a text: where it is, what it is, and the way out.

    `line` and `column` count from 1, and both are 0 where the place is the file as a whole or the command line.
    `source` is the text of that line, empty where there is none to show.
    """

    file: str
    line: int
    column: int
    message: str
    source: str = ""
    hint: str | None = None
    causes: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """Return `file:line:column`, or the file alone where no line is meant."""
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file

    @property
    def summary(self) -> str:
        """Return the place and what is wrong there, on one line."""
        return f"{self.place}: {self.message}"

    def block(self) -> str:
        """Return the problem as a person reads it: the line, a caret under the place, the hint."""
        excerpt = _excerpt(self.line, self.column, self.source) if self.line and self.source else ()
        return _block(self.summary, self.causes, excerpt, self.hint)


class ManifestError(UsageError):
    """Every problem found in one manifest, in the order of the file."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        """Take at least one problem; ValueError when there is none."""
        if not problems:
            raise ValueError("a ManifestError needs a problem")
        self.problems = tuple(problems)
        first = self.problems[0]
        if len(self.problems) == 1:
            super().__init__(first.summary, causes=first.causes, hint=first.hint)
        else:
            super().__init__(
                f"{len(self.problems)} problems in the manifest",
                causes=[problem.summary for problem in self.problems],
            )

    def blocks(self) -> tuple[str, ...]:
        """Return one block per problem."""
        return tuple(problem.block() for problem in self.problems)

    def to_json(self) -> dict[str, object]:
        """Return a JSON value from which `from_json` makes an equal error in another process."""
        problems = [
            {
                "file": problem.file,
                "line": problem.line,
                "column": problem.column,
                "message": problem.message,
                "source": problem.source,
                "hint": problem.hint,
                "causes": list(problem.causes),
            }
            for problem in self.problems
        ]
        return {**super().to_json(), "problems": problems}

    @classmethod
    def parse_json(cls, value: Mapping[str, object]) -> Self:
        """Make an error of this class from what its `to_json` returned; ValueError when it is not that."""
        return cls([_parse_problem(problem) for problem in _list(value, "problems")])


class TaskFailed(MaxbuildError):
    """A task of the graph failed."""


class UnsupportedModel(MaxbuildError):
    """An architecture that cannot be outlined."""


class WeightsError(MaxbuildError):
    """Weight files that cannot be read, or that do not fit the model."""


class PackageError(MaxbuildError):
    """A package that is broken, or that is not for this host."""


class WorkFound(MaxbuildError):
    """There is work to do, where there was to be none."""

    exit_code = 3


class StoreError(MaxbuildError):
    """The store, or the disk under it, cannot do what is asked of it."""

    exit_code = 4


# Closed on purpose: what comes back from another process names one of these, never something to import.
_CLASSES: Mapping[str, type[MaxbuildError]] = {
    error.__name__: error
    for error in (
        MaxbuildError,
        UsageError,
        ManifestError,
        TaskFailed,
        UnsupportedModel,
        WeightsError,
        PackageError,
        WorkFound,
        StoreError,
    )
}


def from_json(value: object) -> MaxbuildError:
    """Make the error that `to_json` described; ValueError when `value` is no such description."""
    if not isinstance(value, dict):
        raise ValueError("an error is described by a JSON object")
    name = _text(value, "class")
    if name not in _CLASSES:
        raise ValueError(f"no error is called {name!r}")
    return _CLASSES[name].parse_json(value)


def render(error: MaxbuildError) -> str:
    """Return the text for stderr: every block of `error`, a blank line between two, no trailing newline."""
    return "\n\n".join(error.blocks())


def printable(text: str) -> str:
    """Return `text` with control characters escaped, so that no input can steer a terminal."""
    return "".join(
        character
        if character in "\n\t" or unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def _block(message: str, causes: Sequence[str], excerpt: Sequence[str], hint: str | None) -> str:
    lines = [_indented("error: ", message), *excerpt]
    lines += [_indented("  Caused by: ", cause) for cause in causes]
    if hint:
        lines += ["", _indented("hint: ", hint)]
    return "\n".join(lines)


def _indented(label: str, text: str) -> str:
    """Put `label` before `text`, and its width in blanks before every further line of it."""
    return label + printable(text).rstrip().replace("\n", "\n" + " " * len(label))


def _excerpt(line: int, column: int, source: str) -> tuple[str, str]:
    """Return the source line behind its number and the line with the caret, cut to a readable width."""
    start = max(0, column - 1 - _WIDEST_SOURCE_LINE * 2 // 3) if len(source) > _WIDEST_SOURCE_LINE else 0
    end = start + _WIDEST_SOURCE_LINE
    before = ("…" if start else "") + printable(source[start : column - 1]).replace("\t", " ")
    after = printable(source[max(start, column - 1) : end]).replace("\t", " ") + ("…" if source[end:] else "")
    number = str(line)
    return (
        f"  {number} | {before}{after}".rstrip(),
        f"  {' ' * len(number)} | {' ' * _columns(before)}^",
    )


def _columns(text: str) -> int:
    """Return how many terminal columns `text` takes: wide characters two, combining ones none."""
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def _parse_problem(value: object) -> Problem:
    if not isinstance(value, dict):
        raise ValueError("a problem is described by a JSON object")
    return Problem(
        file=_text(value, "file"),
        line=_number(value, "line"),
        column=_number(value, "column"),
        message=_text(value, "message"),
        source=_text(value, "source"),
        hint=_optional_text(value, "hint"),
        causes=tuple(_as_text("causes", cause) for cause in _list(value, "causes")),
    )


def _as_text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"`{name}` of an error must be text")
    return value


def _text(value: Mapping[str, object], name: str) -> str:
    return _as_text(name, value.get(name))


def _optional_text(value: Mapping[str, object], name: str) -> str | None:
    return None if value.get(name) is None else _text(value, name)


def _number(value: Mapping[str, object], name: str) -> int:
    number = value.get(name)
    if not isinstance(number, int) or isinstance(number, bool):
        raise ValueError(f"`{name}` of an error must be a whole number")
    return number


def _list(value: Mapping[str, object], name: str) -> list[object]:
    items = value.get(name)
    if not isinstance(items, list):
        raise ValueError(f"`{name}` of an error must be a list")
    return items
