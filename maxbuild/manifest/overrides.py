"""Overrides: `role.field=value` put over what the manifest says, in order, remembering who had the last word.

`section.field=value` is one as well, and of a field that is a mapping `role.field.key=value` says one key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from maxbuild.errors import Problem
from maxbuild.manifest.document import Document, Place, Steps, Value, parse_value
from maxbuild.manifest.names import judge_key
from maxbuild.manifest.nodes import Position, Scalar
from maxbuild.manifest.options import ROLE, SECTIONS, Option, ValueType, find_option
from maxbuild.manifest.suggest import did_you_mean

FORM = "an override is written `role.field=value`"


@dataclass(frozen=True, slots=True)
class Override:
    """One override: its text, where it was said, and how its origin is called."""

    text: str
    place: Place
    origin: str


def written_overrides(document: Document) -> list[Override]:
    """Return the overrides that `document` lists."""
    listed = document.root.get("overrides")
    return [
        Override(item.text, document.value_place(("overrides", index)), f"override#{index + 1}")
        for index, item in enumerate(listed if isinstance(listed, list) else [])
        if isinstance(item, Scalar) and not item.empty
    ]


def spoken_overrides(texts: Iterable[str]) -> list[Override]:
    """Return the overrides that the command line gives."""
    return [Override(text, Place(f"--override {text}"), "flag") for text in texts]


def apply_overrides(document: Document, overrides: Sequence[Override]) -> list[tuple[Override, Steps]]:
    """Put the values of `overrides` into `document`, and return where each of them went.

    What an override replaces is not judged any more; an override that means nothing becomes a problem.
    """
    models = document.root.get("models")
    if not isinstance(models, dict):
        return []
    applied = []
    for override in overrides:
        found = _parse(override, models)
        if isinstance(found, Problem):
            document.problems.append(found)
            continue
        steps, value = found
        if problem := put_part(document, steps, value, override.place, override.origin):
            document.problems.append(problem)
        applied.append((override, steps))
    return applied


def put_part(document: Document, steps: Steps, value: Value, place: Place, origin: str) -> Problem | None:
    """Put `value` at `steps`, in a field or in a part of one; return what is wrong where there is no place for it."""
    field = steps[: 3 if steps[0] == "models" else 2]
    before = document.origin(field) if field in document.values else ""
    try:
        document.put(steps, value, place, origin)
    except TypeError as error:
        if error.args[0] in steps[: len(field) - 1]:  # its section or role is no mapping, and that is told by itself
            return None
        return place.problem(f"`{error.args[0]}` has no part `{steps[steps.index(error.args[0]) + 1]}`")
    if len(steps) > len(field):
        document.origins[field] = f"{before} + {origin}" if before not in {"", origin} else origin
        document.values.setdefault(field, place)
    return None


def read_value(option: Option, text: str, place: Place) -> Value | Problem:
    """Return the value that `text` is for the field of `option`: typed by the field, and not by its looks.

    For a text every text is one, an all-digit revision too; a list or a mapping may be written as YAML or JSON.
    """
    match option.value_type:
        case ValueType.TEXT | ValueType.CHOICE:
            return Scalar(Position(1, 1), text, plain=False)
        case ValueType.LIST if not text.lstrip().startswith("["):
            return [Scalar(Position(1, 1), text, plain=False)]
        case ValueType.LIST | ValueType.MAPPING:
            return parse_value(text, place)
        case _:
            return Scalar(Position(1, 1), text.strip(), plain=True)


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a role or of a section, or a key inside one that is a mapping, and its option in the table."""

    steps: Steps
    option: Option
    is_part: bool


def find_field(path: str, models: Mapping[str, Value], place: Place) -> Field | Problem:
    """Return the field that `path`, said at `place`, leads to: `role.field`, `section.field`, or further in."""
    tell = place.problem
    owner, _, rest = path.partition(".")
    if owner not in models and owner not in SECTIONS:
        roles = ", ".join(f"`{known}`" for known in models) or "none"
        hint = did_you_mean(owner, [*models, *SECTIONS])
        return tell(f"no role `{owner}` to override; roles of this manifest: {roles}", hint)
    name, *parts = rest.split(".")
    section, steps = (ROLE, ("models", owner, name)) if owner in models else (owner, (owner, name))
    if fault := judge_key(section, name):
        message, hint = fault
        return tell(message.replace("unknown key", "unknown field"), hint)
    option = find_option(section, name)
    assert option is not None
    if parts and (option.value_type is not ValueType.MAPPING or not all(parts)):
        return tell(f"`{name}` has no part `{'.'.join(parts)}`", f"write `{owner}.{name}=value`")
    return Field((*steps, *parts), option, bool(parts))


def _parse(override: Override, models: Mapping[str, Value]) -> tuple[Steps, Value] | Problem:
    """Return where `override` leads and the value it says, or what is wrong with it."""
    tell = override.place.problem
    path, equals, text = override.text.partition("=")
    owner, dot, rest = (part.strip() for part in path.partition("."))
    if not (equals and dot and owner and rest):
        return tell(f"`{override.text}` is no override", FORM)
    field = find_field(f"{owner}.{rest}", models, override.place)
    if isinstance(field, Problem):
        return field
    if not text.strip():
        return tell(f"the override of `{owner}.{rest}` gives no value", FORM)
    read = _read_part if field.is_part else read_value
    value = read(field.option, text, override.place)
    return value if isinstance(value, Problem) else (field.steps, value)


def _read_part(_: Option, text: str, place: Place) -> Value | Problem:
    """Return what `text` says for a key inside a mapping, of which no table knows the type: what a manifest would."""
    if text.lstrip().startswith(("[", "{", '"', "'")):
        return parse_value(text, place)
    return Scalar(Position(1, 1), text.strip(), plain=True)
