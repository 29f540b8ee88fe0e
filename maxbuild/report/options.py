"""The option table for people and programs: as a list, one option in full, and as content of documents."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from maxbuild.manifest.options import PLACES, ROLE, TOP, Option, State, TaskKind, ValueType, draft_flag
from maxbuild.report.table import Cell, Column, table
from maxbuild.report.terminal import Style, Terminal

_COLUMNS = (
    Column("option"),
    Column("default", least=10),
    Column("value", least=12),
    Column("enters"),
    Column("state"),
)
_STYLES = {State.EFFECTIVE: Style.GREEN, State.CARRIED: Style.CYAN, State.REFUSED: Style.DIM}
_LEGEND = "enters: " + ", ".join(f"{kind.value[0].upper()} {kind}" for kind in TaskKind)
_MEANINGS = (
    "effective: it changes an artifact, a key or a run",
    "carried: it steers a server alone, and packages hand it on",
    "refused: it is known, and an error with a reason",
)
_INDENT = "  "


def options_text(options: Sequence[Option], terminal: Terminal) -> str:
    """Return `options` by place, a line each; below each place why those that are refused are."""
    blocks = []
    for place in dict.fromkeys(option.place for option in options):
        mine = [option for option in options if option.place == place]
        title = [terminal.paint(place_name(place), Style.BOLD), *_wrapped(PLACES[place], terminal)]
        rows = table(_COLUMNS, [_row(option) for option in mine], terminal)
        blocks.append("\n".join([*title, rows, *_refusals(mine, terminal)]))
    legend = [line for words in (_LEGEND, *_MEANINGS) for line in _wrapped(words, terminal, indent="")]
    return "\n\n".join([*blocks, "\n".join(legend)])


def option_text(option: Option, terminal: Terminal) -> str:
    """Return all there is to know of one option."""
    facts = [
        ("where", place_name(option.place)),
        ("value", value_words(option)),
        ("default", default_words(option)),
        ("enters", kinds_words(option)),
        ("state", str(option.state) + (f": {option.reason}" if option.reason else "")),
        ("flag", ", ".join(flags_of(option))),
        *(("refused", f"{choices}: {reason}") for reason, choices in refused_choices(option).items()),
    ]
    lines = [terminal.paint(option.name, Style.BOLD), *_wrapped(option.help, terminal), ""]
    for name, words in facts:
        if words:
            first, *rest = _wrapped(words, terminal, indent=_INDENT + " " * 9)
            lines += [_INDENT + terminal.paint(name.ljust(9), Style.DIM) + first.lstrip(), *rest]
    return "\n".join(lines)


def options_content(options: Sequence[Option]) -> list[dict[str, object]]:
    """Return `options` for a JSON document."""
    return [
        {
            "name": option.name,
            "place": option.place,
            "type": option.value_type.name.lower(),
            "choices": list(option.choices),
            "minimum": option.minimum,
            "above": option.above,
            "maximum": option.maximum,
            "multiple": option.multiple,
            "required": option.required,
            "default": option.default,
            "unset": option.unset,
            "enters": [str(kind) for kind in option.kinds],
            "targets": list(option.apis),
            "state": str(option.state),
            "reason": option.reason,
            "refused_choices": dict(option.refused_choices),
            "flags": list(flags_of(option)),
            "help": option.help,
        }
        for option in options
    ]


def place_name(place: str) -> str:
    """Return how a person is told where options stand."""
    return "the top of the manifest" if place == TOP else place


def value_words(option: Option) -> str:
    """Return what may stand as the option's value."""
    match option.value_type:
        case ValueType.CHOICE:
            return " | ".join(option.choices)
        case ValueType.BOOLEAN:
            return "true | false"
        case ValueType.INTEGER | ValueType.NUMBER:
            bounds = (
                ("> ", option.above),
                ("≥ ", option.minimum),
                ("≤ ", option.maximum),
                ("a multiple of ", option.multiple),
            )
            told = [f"{relation}{bound:g}" for relation, bound in bounds if bound is not None]
            return " ".join([option.value_type.name.lower(), ", ".join(told)]).rstrip()
        case _:
            return str(option.value_type)


def default_words(option: Option) -> str:
    """Return what holds when nothing is said."""
    if option.required:
        return "needed"
    match option.default:
        case None:
            return option.unset
        case bool():
            return str(option.default).lower()
        case tuple():
            return ", ".join(option.default) or "none"
        case _:
            return str(option.default)


def kinds_words(option: Option) -> str:
    """Return the kinds of tasks whose documents hold the value."""
    targets = f" (`{'`, `'.join(option.apis)}`)" if option.apis else ""
    return ", ".join(option.kinds) + targets if option.kinds else "nothing"


def refused_choices(option: Option) -> dict[str, str]:
    """Return for each reason the choices that are refused for it, as a text."""
    choices: dict[str, list[str]] = {}
    for choice, reason in option.refused_choices.items():
        choices.setdefault(reason, []).append(f"`{choice}`")
    return {reason: ", ".join(names) for reason, names in choices.items()}


def flags_of(option: Option) -> tuple[str, ...]:
    """Return every flag that sets the option, those of the draft too."""
    own = tuple(flag for flag in (option.flag, option.negative_flag) if flag)
    alias = (option.flag_alias,) if option.flag_alias else ()
    return (*alias, *own, *map(draft_flag, own)) if option.place == ROLE else (*alias, *own)


def _row(option: Option) -> list[Cell]:
    return [
        Cell(option.name),
        Cell(default_words(option).replace("`", "")),
        Cell(value_words(option).replace("`", "")),
        Cell("".join(kind.value[0].upper() for kind in option.kinds) or "-"),
        Cell(str(option.state), _STYLES[option.state]),
    ]


def _refusals(options: Sequence[Option], terminal: Terminal) -> Iterator[str]:
    """Yield each reason once, with the names of those that are refused for it."""
    names: dict[str, list[str]] = {}
    for option in options:
        if option.state is State.REFUSED:
            names.setdefault(option.reason, []).append(f"`{option.name}`")
        for reason, choices in refused_choices(option).items():
            names.setdefault(reason, []).append(f"`{option.name}` as {choices}")
    for reason, refused in names.items():
        yield from _wrapped(f"refused: {', '.join(refused)}: {reason}", terminal)


def _wrapped(words: str, terminal: Terminal, indent: str = _INDENT) -> list[str]:
    """Return `words` in lines that fit; in one line where lines have no end."""
    if terminal.width is None:
        return [indent + words]
    return textwrap.wrap(
        words,
        terminal.width,
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )
