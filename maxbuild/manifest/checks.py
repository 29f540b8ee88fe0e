"""What the option table says of a value, checked: its type, its bounds and its choices, in this program's words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

from pydantic_core import PydanticCustomError

from maxbuild.manifest.document import describe
from maxbuild.manifest.options import Option, ValueType
from maxbuild.manifest.suggest import did_you_mean

_EXAMPLES: Final[Mapping[str, str]] = {
    "version": "version: 1",
    "name": "name: demo",
    "targets": "targets: [cpu]",
    "overrides": "overrides: [main.max_length=512]",
    "model_path": "model_path: organization/name",
    "speculative_method": "speculative_method: standalone",
    "num_speculative_tokens": "num_speculative_tokens: 4",
}


def wrong(
    message: str, hint: str | None = None, causes: tuple[str, ...] = (), *, at: tuple[str, ...] = ()
) -> PydanticCustomError:
    """Return the error that a validator raises to have `message` and `hint` shown at the value's place.

    at: the way from the value to what in it is wrong.
    """
    told = {"message": message, "hint": hint, "causes": causes, "at": at}
    return PydanticCustomError("maxbuild", "{message}", told)


def checked(option: Option, value: object) -> object:
    """Return `value` as the option's field holds it; raise a validator's error where the table does not allow it.

    What is in a list is checked one by one, with the place of each, by the field itself.
    """
    match option.value_type:
        case ValueType.TEXT:
            return _text(option, value)
        case ValueType.INTEGER:
            return _integer(option, value)
        case ValueType.NUMBER:
            return _number(option, value)
        case ValueType.BOOLEAN:
            return _boolean(option, value)
        case ValueType.CHOICE:
            return _choice(option, _text(option, value))
        case ValueType.LIST:
            if not isinstance(value, list | tuple):
                raise wrong(f"`{option.name}` must be a list, not {describe(value)}", example(option.name))
            return value
        case ValueType.MAPPING:
            return _mapping(option, value)


def example(name: str | int) -> str | None:
    """Return the hint that shows how the field `name` is written, None for a field that has none."""
    return f"for example `{_EXAMPLES[name]}`" if isinstance(name, str) and name in _EXAMPLES else None


def _text(option: Option, value: object) -> str:
    if not isinstance(value, str):
        raise wrong(f"`{option.name}` must be text, not {describe(value)}", example(option.name))
    return value


def _integer(option: Option, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        unquoted = isinstance(value, str) and value.isdecimal()
        hint = "write the number without quotes" if unquoted else None
        raise wrong(f"`{option.name}` must be a whole number, not {_kind(value)}{describe(value)}", hint)
    _check_bounds(option, value)
    return value


def _number(option: Option, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise wrong(f"`{option.name}` must be a number, not {_kind(value)}{describe(value)}")
    _check_bounds(option, value)
    return float(value)


def _check_bounds(option: Option, value: float) -> None:
    """Raise where `value` is none that the option can have."""
    if option.above is not None and value <= option.above:
        raise wrong(f"`{option.name}` must be more than {option.above:g}, not `{value}`")
    if option.minimum is not None and value < option.minimum:
        raise wrong(f"`{option.name}` must be at least {option.minimum:g}, not `{value}`")
    if option.maximum is not None and value > option.maximum:
        raise wrong(f"`{option.name}` must be at most {option.maximum:g}, not `{value}`")
    if option.multiple is not None and value % option.multiple:
        raise wrong(f"`{option.name}` must be a multiple of {option.multiple}, not `{value}`")


def _boolean(option: Option, value: object) -> bool:
    if not isinstance(value, bool):
        raise wrong(f"`{option.name}` must be `true` or `false`, not {_kind(value)}{describe(value)}", _truth(value))
    return value


def _choice(option: Option, value: str) -> str:
    if value in option.choices:
        return value
    if value in option.refused_choices:
        raise wrong(
            f"`{option.name}: {value}` is refused: {option.refused_choices[value]}",
            f"supported: {_list(option.choices)}",
        )
    hint = did_you_mean(value.rpartition(".")[2], option.choices) or f"supported: {_list(option.choices)}"
    raise wrong(f"`{value}` is no `{option.name}`", hint)


def _mapping(option: Option, value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise wrong(f"`{option.name}` must be a mapping of keys to values, not {describe(value)}")
    return value


def _list(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _kind(value: object) -> str:
    return "the text " if isinstance(value, str) else ""


def _truth(value: object) -> str | None:
    """Return the hint for the words that older YAML took for truth values, and for quoted ones."""
    match str(value).lower():
        case "true" | "yes" | "on" | "y" | "1":
            return "write `true`"
        case "false" | "no" | "off" | "n" | "0":
            return "write `false`"
        case _:
            return None
