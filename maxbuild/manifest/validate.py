"""From a model's validation errors to problems: in this program's words, and at the place of the value or key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from maxbuild.errors import Problem
from maxbuild.manifest.checks import example
from maxbuild.manifest.document import Document, Steps, describe

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_Model = TypeVar("_Model", bound=BaseModel)


def validated(
    model: type[_Model], fields: Mapping[str, object], document: Document, steps: Steps, folder: Path
) -> _Model | None:
    """Return `model` of `fields`, None where they do not fit; then each reason is a problem of `document`.

    `steps` is where the fields stand in the document, `folder` what relative paths in them are relative to, unless some
    other file says them.
    """
    try:
        context = {"folder": folder, "folders": document.folders(steps)}
        return model.model_validate(dict(fields), context=context)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            document.problems.append(_problem(details, document, steps))
        return None


def _problem(details: ErrorDetails, document: Document, steps: Steps) -> Problem:
    """Return the problem that one validation error describes."""
    path = (*steps, *details["loc"])
    if details["type"] == "missing":
        under = f" from `{'.'.join(map(str, steps))}`" if steps else ""
        return document.key_place(steps).problem(f"`{path[-1]}` is missing{under}", example(path[-1]))
    if details["type"] == "maxbuild":
        context = details["ctx"]
        place = document.value_place((*path, *context["at"]))
        return place.problem(context["message"], context["hint"], context["causes"])
    return document.value_place(path).problem(*_in_our_words(details, path))


def _in_our_words(details: ErrorDetails, path: Steps) -> tuple[str, str | None]:
    """Return message and hint for one of the validation library's own errors, which are about what is in a list."""
    name = next(step for step in reversed(path) if isinstance(step, str))
    value = details["input"]
    match details["type"]:
        case "string_type":
            hint = "an override is written `role.field=value`" if name == "overrides" else example(name)
            return f"an item of `{name}` must be text, not {describe(value)}", hint
        case "literal_error" if name == "version":
            return f"this program does not know version {describe(value)} of the manifest", "write `version: 1`"
        case _:
            return f"`{name}` cannot be {describe(value)}: {details['msg']}", None
