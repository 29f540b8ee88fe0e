"""docs/reference/options.md, made of the option table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from maxbuild.manifest.options import COMMAND_LINE, PLACES, ROLE, SPECULATIVE, TOP, Option, State, options_at
from maxbuild.report.options import default_words, flags_of, kinds_words, refused_choices, value_words

_HEAD = """# Every option

This page is made of the option table by `just docs`; `maxbuild options` prints the same, and `maxbuild options NAME`
all of one option. How to write a manifest, and other ways to say these values, is in [manifest.md](../manifest.md).

| state | what becomes of a value |
|---|---|
| effective | it changes an artifact, a key or a run |
| carried | it steers a server alone: it is checked, and written into `package.json` ([serving](../package-format.md)) |
| refused | it is known by name, and an error that says why |

"Enters" names the task kinds whose documents hold the value: these run again when it changes, and what consumes from
them if what they leave comes out different. A carried value enters `package` alone. "By content": the value chooses
what is read, so what was read enters, and the value itself is in no key. A value that is the default is in no key
either, said or not. "Needed" under "default": it has to be said.

A flag sets a value of `main`; with `--draft-` for `--` (and `--no-draft-` for `--no-`) the same of `draft`.
"""

_TITLES = {
    TOP: "At the top",
    ROLE: "Under `models.ROLE`",
    COMMAND_LINE: "On the command line alone",
}
_NOTES = {
    ROLE: "Another `quantization_encoding` usually makes other regions, which compile; another `max_length` does not.",
    SPECULATIVE: "The section is needed with a `draft`, and refused without.",
}


def options_page() -> str:
    """Return the page's text."""
    return "\n".join([_HEAD, *(line for place in PLACES for line in _section(place))]).rstrip("\n") + "\n"


def _section(place: str) -> Iterator[str]:
    options = options_at(place)
    accepted = [option for option in options if option.accepted]
    refused = [option for option in options if option.state is State.REFUSED]
    yield f"## {_TITLES.get(place, f'Under `{place}`')}\n"
    yield f"{PLACES[place]} {_NOTES.get(place, '')}".rstrip() + "\n"
    if accepted:
        yield from _table(accepted)
    yield from _refusals(refused, accepted)


def _table(options: Sequence[Option]) -> Iterator[str]:
    yield "| option | value | default | enters | state | flag | meaning |"
    yield "|---|---|---|---|---|---|---|"
    for option in options:
        cells = (
            f"`{option.name}`",
            _escaped(value_words(option)),
            _escaped(default_words(option)),
            _enters(option),
            str(option.state),
            # Those of the draft follow by the rule that the page's head gives.
            "<br>".join(f"`{flag}`" for flag in flags_of(option) if "-draft-" not in flag),
            _escaped(option.help),
        )
        yield f"| {' | '.join(cells)} |"
    yield ""


def _refusals(refused: Sequence[Option], accepted: Sequence[Option]) -> Iterator[str]:
    rows = [(f"`{option.name}`", _escaped(option.help), option.reason) for option in refused]
    for option in accepted:
        rows += [(f"`{option.name}`: {names}", "", reason) for reason, names in refused_choices(option).items()]
    if rows:
        yield "| refused | meaning | why |"
        yield "|---|---|---|"
        yield from (f"| {' | '.join(row)} |" for row in rows)
        yield ""


def _enters(option: Option) -> str:
    if not option.kinds:
        return "-"
    return kinds_words(option) + (", by content" if option.by_content else "")


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
