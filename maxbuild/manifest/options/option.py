"""What the table says of one option, and short ways to write its rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final, TypeAlias, TypedDict, Unpack

from maxbuild.manifest.options.places import ROLE, SECTIONS

Default: TypeAlias = str | int | float | bool | tuple[str, ...] | None


class TaskKind(StrEnum):
    """A kind of task whose documents an option's value can enter."""

    DOWNLOAD = "download"
    LOAD = "load"
    TRACE = "trace"
    SAMPLERS = "samplers"
    MATCH = "match"
    COMPILE = "compile"
    PACKAGE = "package"


class ValueType(StrEnum):
    """What may stand as an option's value."""

    TEXT = "text"
    INTEGER = "whole number"
    NUMBER = "number"
    BOOLEAN = "`true` or `false`"
    CHOICE = "choice"
    LIST = "list"
    MAPPING = "mapping"


class State(StrEnum):
    """What becomes of an option's value."""

    EFFECTIVE = "effective"
    """It changes an artifact, a key or a run."""
    CARRIED = "carried"
    """It steers a server alone: checked, and handed on in the package."""
    REFUSED = "refused"
    """It is known by name, and an error with a reason."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option: where it stands, what it may hold, what holds when nothing is said, which task kinds it enters."""

    name: str
    place: str
    value_type: ValueType
    kinds: tuple[TaskKind, ...]
    """The kinds whose documents hold the value; what only consumes their outputs is not among them."""
    help: str
    state: State = State.EFFECTIVE
    reason: str = ""
    """Why a refused option is refused, as the end of a sentence that begins with its name."""
    default: Default = None
    """What holds when nothing is said; None where that is not one value, and then `unset` says what it is."""
    unset: str = ""
    required: bool = False
    by_content: bool = False
    """The value chooses what is read: that content enters documents, and the value itself never does."""
    apis: tuple[str, ...] = ()
    """The target APIs that the value concerns; compiles for others leave it out. Empty: all of them."""
    choices: tuple[str, ...] = ()
    refused_choices: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Further choices that are known, each with the reason for which it is refused."""
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    """A number that the value must exceed."""
    multiple: int | None = None
    aliases: tuple[str, ...] = ()
    flag: str | None = None
    """How a command line spells it, `--max-length`; None where it has no flag."""
    flag_alias: str | None = None
    """A shorter flag for the main model's, `--model`."""
    negative_flag: str | None = None
    """The flag that says `false`, `--no-use-subgraphs`."""

    @property
    def effective(self) -> bool:
        """Tell whether setting the option changes an artifact, a key or a run."""
        return self.state is State.EFFECTIVE

    @property
    def accepted(self) -> bool:
        """Tell whether a manifest may set the option: it is effective or carried."""
        return self.state is not State.REFUSED

    def concerns(self, api: str | None) -> bool:
        """Tell whether the option is for targets of `api`; None is all of them."""
        return api is None or not self.apis or api in self.apis

    @property
    def full_name(self) -> str:
        """Return the option's name with its place, `runtime.max_batch_size`."""
        return f"{self.place}.{self.name}" if self.place in {ROLE, *SECTIONS} else self.name


_LETTERS: Final = {kind.value[0].upper(): kind for kind in TaskKind}


class _Details(TypedDict, total=False):
    """What a row says beyond the columns that every row has; choices and aliases are words of one text."""

    default: Default
    unset: str
    required: bool
    by_content: bool
    apis: str
    choices: str
    refused_choices: Mapping[str, str]
    minimum: float
    maximum: float
    above: float
    multiple: int
    aliases: str
    flag: str | None
    flag_alias: str | None
    negative_flag: str | None


def effective(
    place: str, name: str, value_type: ValueType, kinds: str, text: str, **details: Unpack[_Details]
) -> Option:
    """Return the row of an option that does something; `kinds` are initials of task kinds."""
    return _row(place, name, value_type, kinds, text, State.EFFECTIVE, "", details)


def carried(place: str, name: str, value_type: ValueType, text: str, **details: Unpack[_Details]) -> Option:
    """Return the row of an option that packages hand on to a server."""
    return _row(place, name, value_type, "P", text, State.CARRIED, "", details)


def refused(
    place: str, name: str, value_type: ValueType, kinds: str, text: str, reason: str, **details: Unpack[_Details]
) -> Option:
    """Return the row of an option that is known and refused for `reason`."""
    return _row(place, name, value_type, kinds, text, State.REFUSED, reason, details)


def _row(
    place: str, name: str, value_type: ValueType, kinds: str, text: str, state: State, reason: str, details: _Details
) -> Option:
    flag = f"--{name.replace('_', '-')}"
    negative = f"--no-{flag[2:]}" if value_type is ValueType.BOOLEAN else None
    return Option(
        name=name,
        place=place,
        value_type=value_type,
        kinds=tuple(_LETTERS[letter] for letter in kinds),
        help=text,
        state=state,
        reason=reason,
        default=details.get("default"),
        unset=details.get("unset", ""),
        required=details.get("required", False),
        by_content=details.get("by_content", False),
        apis=tuple(details.get("apis", "").split()),
        choices=tuple(details.get("choices", "").split()),
        refused_choices=MappingProxyType(dict(details.get("refused_choices", {}))),
        minimum=details.get("minimum"),
        maximum=details.get("maximum"),
        above=details.get("above"),
        multiple=details.get("multiple"),
        aliases=tuple(details.get("aliases", "").split()),
        flag=details.get("flag", flag),
        flag_alias=details.get("flag_alias"),
        negative_flag=details.get("negative_flag", negative),
    )
