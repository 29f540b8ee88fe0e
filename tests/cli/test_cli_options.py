"""`maxbuild options`: the whole table, and the page that is made of it."""

from __future__ import annotations

import io
import json

import pytest
from cli_world import ROOT, Maxbuild

from maxbuild.cli.optionlist import named_options
from maxbuild.errors import UsageError
from maxbuild.manifest.options import OPTIONS, PLACES, Option, State, get_option, options_at
from maxbuild.report.options import option_text, options_text, place_name
from maxbuild.report.options_page import options_page
from maxbuild.report.terminal import Terminal

PAGE = ROOT / "docs" / "reference" / "options.md"


def listed(width: int | None) -> list[str]:
    """Return the lines of the whole list on a terminal of this width, None for a pipe."""
    return options_text(OPTIONS, Terminal(io.StringIO(), width=width)).split("\n")


def test_page_of_the_reference_is_current() -> None:
    """The committed page is the one that the table makes."""
    assert PAGE.read_text(encoding="utf-8") == options_page(), "run `just docs`"


def test_page_has_every_option_with_state_and_reason() -> None:
    """Every option has its row in the page; a refused one, and a refused choice, with why."""
    rows = [line for line in options_page().split("\n") if line.startswith("| `")]
    for option in OPTIONS:
        (row,) = [line for line in rows if line.startswith(f"| `{option.name}` |")]
        assert row.endswith(f"| {option.reason} |") or f"| {option.state} |" in row
        for choice, reason in option.refused_choices.items():
            assert any(
                line.startswith(f"| `{option.name}`: ") and f"`{choice}`" in line and reason in line for line in rows
            )


@pytest.mark.parametrize("width", [80, 100])
def test_list_fits_a_terminal(width: int) -> None:
    """No line is longer than the terminal is wide; names, what they enter and states are whole."""
    lines = listed(width)
    assert max(map(len, lines)) <= width
    for option in OPTIONS:
        (row,) = [line for line in lines if line.split()[:1] == [option.name] and not line.startswith(" ")]
        initials = "".join(kind.value[0].upper() for kind in option.kinds) or "-"
        assert row.split()[-2:] == [initials, str(option.state)]


def test_list_in_a_pipe_is_whole() -> None:
    """Nothing is cut where lines have no end, and each reason is on one line."""
    lines = listed(None)
    assert "…" not in "".join(lines)
    for option in OPTIONS:
        if option.state is State.REFUSED:
            assert any(f"`{option.name}`" in line and line.endswith(f": {option.reason}") for line in lines)


def test_list_is_by_place() -> None:
    """Places stand in the order in which people meet them, each with its options below it."""
    lines = listed(None)
    heads = [lines.index(place_name(place)) for place in PLACES]
    assert heads == sorted(heads)
    for head, end, place in zip(heads, [*heads[1:], len(lines)], PLACES, strict=True):
        names = [line.split()[0] for line in lines[head:end] if line and not line.startswith(" ")]
        assert [name for name in names if name in {option.name for option in OPTIONS}] == [
            option.name for option in options_at(place)
        ]


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.full_name)
def test_one_option_is_told_in_full(option: Option) -> None:
    """Its place, meaning, flags, state and reason are there, at 80 columns too."""
    text = option_text(option, Terminal(io.StringIO()))
    for told in (
        option.name,
        place_name(option.place),
        option.help,
        str(option.state),
        option.reason,
        option.flag or "",
    ):
        assert told in text
    assert max(map(len, option_text(option, Terminal(io.StringIO(), width=80)).split("\n"))) <= 80


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("max_length", "max_length"),
        ("max-length", "max_length"),
        ("--max-length", "max_length"),
        ("draft-max-length", "max_length"),
        ("no-use-subgraphs", "use_subgraphs"),
        ("models.main.max_length", "max_length"),
        ("runtime.max_batch_size", "max_batch_size"),
        ("target", "targets"),
    ],
)
def test_an_option_is_found_however_it_is_said(words: str, name: str) -> None:
    """By name, flag, or name with its place."""
    assert [option.name for option in named_options(words)] == [name]


def test_a_section_is_all_of_its_options() -> None:
    """`runtime`, or `models.main`, lists what stands there."""
    assert named_options("runtime") == options_at("runtime")
    assert named_options("kv-cache") == options_at("kv_cache")
    assert named_options("models.draft") == options_at("models.ROLE")


@pytest.mark.parametrize("words", ["max_lenght", "--max-lenght", "models.main.max_lenght"])
def test_a_wrong_name_is_told_with_the_nearest(words: str) -> None:
    """The message names what was said, the hint what was meant."""
    with pytest.raises(UsageError) as caught:
        named_options(words)
    assert (caught.value.message, caught.value.hint) == (
        f"no option is called `{words}`",
        "did you mean `max_length`?",
    )


def test_the_command_prints_list_document_and_page(maxbuild: Maxbuild) -> None:
    """People get the list, programs the table, and the page goes to its file."""
    told = maxbuild("options")
    assert (told.returncode, told.stderr, told.stdout.splitlines()) == (0, "", listed(None))
    document = json.loads(maxbuild("options", "kv_cache", "--json").stdout)
    assert document["schema"] == "maxbuild.options.v1"
    by_name = {entry["name"]: entry for entry in document["options"]}
    assert list(by_name) == [option.name for option in options_at("kv_cache")]
    fraction = by_name["device_memory_utilization"]
    assert (fraction["above"], fraction["maximum"], fraction["default"]) == (0, 1, 0.9)
    assert (fraction["state"], fraction["enters"]) == ("carried", ["package"])
    assert by_name["kv_cache_page_size"]["reason"] == get_option("kv_cache", "kv_cache_page_size").reason


def test_what_does_not_go_together_is_refused(maxbuild: Maxbuild) -> None:
    """The page is whole, and nothing else is written to a file."""
    assert maxbuild("options", "--markdown", "--json").returncode == 2
    assert maxbuild("options", "--output", "page.md").returncode == 2
