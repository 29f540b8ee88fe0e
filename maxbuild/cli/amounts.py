"""Amounts as people write them: sizes with their unit, and spans of time with theirs."""

from __future__ import annotations

import re
from collections.abc import Mapping

from maxbuild.errors import UsageError

_SIZES = {
    "B": 1,
    **{f"{letter}B": 1000**power for power, letter in enumerate("kMGTP", 1)},
    **{f"{letter}iB": 1024**power for power, letter in enumerate("KMGTP", 1)},
}
_AGES = {"s": 1, "min": 60, "h": 60 * 60, "d": 24 * 60 * 60, "w": 7 * 24 * 60 * 60}
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", re.ASCII)


def parse_size(option: str, text: str) -> int:
    """Return the bytes that `text` says, `20GiB` or `500 MB`; UsageError for `option` where it says none."""
    return int(_parse(option, text, "size", _SIZES, "20GiB"))


def parse_age(option: str, text: str) -> float:
    """Return the seconds that `text` says, `30d` or `12h`; UsageError for `option` where it says none."""
    return _parse(option, text, "span of time", _AGES, "30d")


def _parse(option: str, text: str, what: str, units: Mapping[str, int], example: str) -> float:
    amount = _AMOUNT.fullmatch(text.strip())
    folded = {unit.casefold(): factor for unit, factor in units.items()}
    hint = f"write it as in `{example}`; units: {', '.join(units)}"
    if amount is None:
        raise UsageError(f"`{option}`: `{text}` is no {what}", hint=hint)
    number, unit = amount[1], amount[2].casefold()
    if not unit and float(number) == 0:
        return 0  # nothing is nothing in every unit
    if unit not in folded:
        missing = f"`{text}` has the unknown unit `{amount[2]}`" if unit else f"`{text}` lacks its unit"
        raise UsageError(f"`{option}`: {missing}", hint=hint)
    return float(number) * folded[unit]
