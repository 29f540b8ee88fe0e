"""Overrides: `role.field=value` put over what the manifest says, in order, remembering who had the last word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from maxbuild.errors import Problem
from maxbuild.manifest.document import Document, Place, Value
from maxbuild.manifest.names import judge_key
from maxbuild.manifest.nodes import Position, Scalar
from maxbuild.manifest.options import ROLE, ValueType, find_option
from maxbuild.manifest.suggest import did_you_mean


@dataclass(frozen=True, slots=True)
class Override:
    """One override: its text, where it was said, and how its origin is called."""

    text: str
    place: Place
    origin: str


def collect_overrides(document: Document, flags: Sequence[str]) -> list[Override]:
    """Return the manifest's overrides and then the command line's, in the order in which they apply."""
    listed = document.root.get("overrides")
    written = [
        Override(item.text, document.value_place(("overrides", index)), f"override#{index + 1}")
        for index, item in enumerate(listed if isinstance(listed, list) else [])
        if isinstance(item, Scalar) and not item.empty
    ]
    return [*written, *(Override(text, Place(f"--override {text}"), "flag") for text in flags)]


def apply_overrides(document: Document, overrides: Sequence[Override]) -> dict[str, str]:
    """Put the values of `overrides` into `document` and return `role.field` → the origin of each.

    What an override replaces is not judged any more; an override that means nothing becomes a problem.
    """
    models = document.root.get("models")
    origins: dict[str, str] = {}
    if not isinstance(models, dict):
        return origins
    for override in overrides:
        found = _parse(override, models)
        if isinstance(found, Problem):
            document.problems.append(found)
            continue
        role, field, value = found
        fields = models[role]
        if isinstance(fields, dict):
            fields[field] = value
            document.values["models", role, field] = override.place
            origins[f"{role}.{field}"] = override.origin
    return origins


def _parse(override: Override, models: dict[str, Value]) -> tuple[str, str, Scalar] | Problem:
    """Return role, field and value of `override`, or what is wrong with it."""
    tell = override.place.problem
    name, equals, text = override.text.partition("=")
    role, dot, path = (part.strip() for part in name.partition("."))
    if not (equals and dot and role and path):
        return tell(f"`{override.text}` is no override", "an override is written `role.field=value`")
    if role not in models:
        roles = ", ".join(f"`{known}`" for known in models) or "none"
        return tell(f"no role `{role}` to override; roles of this manifest: {roles}", did_you_mean(role, models))
    field, dot, rest = path.partition(".")
    fault = judge_key(ROLE, field)
    if fault:
        message, hint = fault
        return tell(message.replace("unknown key", "unknown field"), hint)
    if dot:
        return tell(f"`{field}` has no part `{rest}`", f"write `{role}.{field}=value`")
    if not text.strip():
        return tell(f"the override of `{role}.{field}` gives no value", "an override is written `role.field=value`")
    option = find_option(ROLE, field)
    assert option is not None
    # Typed by the field: for a text every value is text, for anything else it is read as the manifest would read it.
    textual = option.value_type in {ValueType.TEXT, ValueType.CHOICE}
    return role, field, Scalar(Position(1, 1), text if textual else text.strip(), plain=not textual)
