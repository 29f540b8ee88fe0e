"""From a model's validation errors to problems: in this program's words, and at the place of the value or key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from maxbuild.errors import Problem
from maxbuild.manifest.document import Document, Steps, describe

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_Model = TypeVar("_Model", bound=BaseModel)

_EXAMPLES = {
    "version": "version: 1",
    "name": "name: demo",
    "targets": "targets: [cpu]",
    "overrides": "overrides: [main.max_length=512]",
    "model_path": "model_path: organization/name",
    "speculative_method": "speculative_method: standalone",
    "num_speculative_tokens": "num_speculative_tokens: 4",
}


def validated(
    model: type[_Model], fields: Mapping[str, object], document: Document, steps: Steps, folder: Path
) -> _Model | None:
    """Return `model` of `fields`, None where they do not fit; then each reason is a problem of `document`.

    `steps` is where the fields stand in the document, `folder` what relative paths in them are relative to.
    """
    try:
        return model.model_validate(dict(fields), context={"folder": folder})
    except ValidationError as error:
        for details in error.errors(include_url=False):
            document.problems.append(_problem(details, document, steps))
        return None


def _problem(details: ErrorDetails, document: Document, steps: Steps) -> Problem:
    """Return the problem that one validation error describes."""
    path = (*steps, *details["loc"])
    if details["type"] == "missing":
        under = f" from `{'.'.join(map(str, steps))}`" if steps else ""
        return document.key_place(steps).problem(f"`{path[-1]}` is missing{under}", _example(path[-1]))
    place = document.value_place(path)
    if details["type"] == "maxbuild":
        context = details["ctx"]
        return place.problem(context["message"], context["hint"], context["causes"])
    return place.problem(*_in_our_words(details, path))


def _in_our_words(details: ErrorDetails, path: Steps) -> tuple[str, str | None]:
    """Return message and hint for one of the validation library's own errors."""
    name = next(step for step in reversed(path) if isinstance(step, str))
    value = details["input"]
    match details["type"]:
        case "string_type" if isinstance(path[-1], int):
            hint = "an override is written `role.field=value`" if name == "overrides" else _example(name)
            return f"an item of `{name}` must be text, not {describe(value)}", hint
        case "string_type":
            return f"`{name}` must be text, not {describe(value)}", None
        case "int_type" | "literal_error" if not isinstance(value, int) or isinstance(value, bool):
            unquoted = isinstance(value, str) and value.isdecimal()
            hint = "write the number without quotes" if unquoted else None
            return f"`{name}` must be a whole number, not {_kind(value)}{describe(value)}", hint
        case "bool_type":
            return f"`{name}` must be `true` or `false`, not {_kind(value)}{describe(value)}", _truth(value)
        case "tuple_type":
            return f"`{name}` must be a list, not {describe(value)}", _example(name)
        case "greater_than_equal":
            return f"`{name}` must be at least {details['ctx']['ge']}, not {describe(value)}", None
        case "literal_error" if name == "version":
            return f"this program does not know version {describe(value)} of the manifest", "write `version: 1`"
        case _:
            return f"`{name}` cannot be {describe(value)}: {details['msg']}", None


def _example(name: str | int) -> str | None:
    return f"for example `{_EXAMPLES[name]}`" if isinstance(name, str) and name in _EXAMPLES else None


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
