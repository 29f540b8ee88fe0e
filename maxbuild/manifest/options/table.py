"""The whole table, and the ways to look an option up: by place and name, by name alone, by flag."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final

from maxbuild.manifest.options.building import (
    COMPILE_OPTIONS,
    DENOISING_OPTIONS,
    LORA_OPTIONS,
    PARALLEL_OPTIONS,
    SAMPLING_OPTIONS,
    SPECULATIVE_OPTIONS,
)
from maxbuild.manifest.options.models import COMMAND_LINE_OPTIONS, MODEL_OPTIONS, TOP_OPTIONS
from maxbuild.manifest.options.option import Option
from maxbuild.manifest.options.places import ROLE
from maxbuild.manifest.options.serving import KV_CACHE_OPTIONS, RUNTIME_OPTIONS

OPTIONS: Final = (
    *TOP_OPTIONS,
    *MODEL_OPTIONS,
    *SPECULATIVE_OPTIONS,
    *COMPILE_OPTIONS,
    *KV_CACHE_OPTIONS,
    *SAMPLING_OPTIONS,
    *LORA_OPTIONS,
    *PARALLEL_OPTIONS,
    *DENOISING_OPTIONS,
    *RUNTIME_OPTIONS,
    *COMMAND_LINE_OPTIONS,
)

_BY_PLACE_AND_NAME = {(option.place, option.name): option for option in OPTIONS}
_BY_NAME = {option.name: option for option in OPTIONS}
_BY_FLAG: dict[str, tuple[str, str]] = {}


def find_option(place: str, name: str) -> Option | None:
    """Return the option called `name` that stands at `place`, or None; any role's place has the options of all."""
    return _BY_PLACE_AND_NAME.get((_section(place), name))


def get_option(place: str, name: str) -> Option:
    """Return the option called `name` at `place`; KeyError when the table has none."""
    return _BY_PLACE_AND_NAME[_section(place), name]


def find_anywhere(name: str) -> Option | None:
    """Return the option called `name`, wherever it stands, or None."""
    return _BY_NAME.get(name)


@cache
def options_at(place: str) -> tuple[Option, ...]:
    """Return the options that stand at `place`, in the table's order."""
    section = _section(place)
    return tuple(option for option in OPTIONS if option.place == section)


def defaults_at(place: str) -> Mapping[str, Any]:
    """Return by name what holds at `place` when nothing is said."""
    return {option.name: option.default for option in options_at(place)}


def option_of_flag(flag: str) -> tuple[str, str] | None:
    """Return place and name of what `flag` sets, None for no flag of the table.

    `--max-length` is `max_length` at `models.main`, `--draft-max-length` the same at `models.draft`; a negative flag
    (`--no-draft-use-subgraphs`) sets what its positive one sets.
    """
    if not _BY_FLAG:
        _BY_FLAG.update(_places_of_flags())
    return _BY_FLAG.get(flag)


def draft_flag(flag: str) -> str:
    """Return how `flag`, which sets a value of the main model, is spelled for the draft."""
    return f"--no-draft-{flag[5:]}" if flag.startswith("--no-") else f"--draft-{flag[2:]}"


def _places_of_flags() -> Iterator[tuple[str, tuple[str, str]]]:
    for option in OPTIONS:
        if option.flag_alias:
            yield option.flag_alias, ("models.main", option.name)
        for flag in filter(None, (option.flag, option.negative_flag)):
            if option.place != ROLE:
                yield flag, (option.place, option.name)
                continue
            yield flag, ("models.main", option.name)
            yield draft_flag(flag), ("models.draft", option.name)


def _section(place: str) -> str:
    return ROLE if place.startswith("models.") else place
