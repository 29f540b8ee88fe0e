"""The manifest's JSON schema, made of the option table: what an editor accepts and completes is what is supported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from maxbuild.manifest.options import (
    KNOWN_ROLES,
    NAME_PATTERN,
    PLACES,
    ROLE,
    ROLE_PATTERN,
    SECTIONS,
    TOP,
    Option,
    ValueType,
    options_at,
)

# What the table of options has no word for.
_EXTRA: Final[dict[str, dict[str, object]]] = {
    "version": {"const": 1},
    "name": {"pattern": f"^{NAME_PATTERN}$"},
    "targets": {"minItems": 1},
    "overrides": {"items": {"type": "string", "pattern": "^[^.=]+[.][^=]+=.+$"}},
    # A commit that happens to be all digits is read as the text it is; an editor takes it for a number.
    "huggingface_model_revision": {"type": ["string", "integer"]},
    "huggingface_weight_revision": {"type": ["string", "integer"]},
    "extends": {"type": ["string", "array"]},
    "environment": {"type": ["array", "object"], "items": {"type": ["string", "object"]}},
    "matrix": {
        "minProperties": 1,
        "additionalProperties": {"type": "array", "minItems": 1},
        "patternProperties": {"^(include|exclude)$": {"type": "array", "items": {"type": "object"}}},
    },
}

# How a variable of the environment is referred to, in place of a value that is no text; it binds texts alone.
_REFERENCE: Final = {"pattern": r"^\$\{env:[A-Za-z_][A-Za-z0-9_]*\}$"}


def json_schema() -> dict[str, object]:
    """Return the schema of a manifest, in draft 2020-12."""
    sections = [section for section in SECTIONS if any(option.accepted for option in options_at(section))]
    top = {option.name: _property(option) for option in options_at(TOP) if option.accepted}
    top["models"] = {
        **top["models"],
        "properties": {role: {"$ref": "#/$defs/model"} for role in KNOWN_ROLES},
        "patternProperties": {f"^{ROLE_PATTERN}$": {"$ref": "#/$defs/model"}},
        "additionalProperties": False,
    }
    top |= {section: {"$ref": f"#/$defs/{section}"} for section in sections}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "maxbuild manifest",
        "description": "What to build: models by role, and the targets to build them for.",
        "type": "object",
        "properties": top,
        "required": ["version"],
        "additionalProperties": False,
        # Of a manifest that extends others, what is missing here may stand there.
        "if": {"not": {"required": ["extends"]}},
        "then": _whole(),
        "$defs": {
            "model": _object(ROLE, required=[]),
            **{section: _object(section) for section in sections},
        },
    }


def _whole() -> dict[str, object]:
    """Return what has to be said, by a manifest that extends no other."""
    has_draft = {"properties": {"models": {"required": ["draft"]}}, "required": ["models"]}
    has_speculative = {"required": ["speculative"]}
    has_targets = {"required": ["targets"]}
    chosen_by_matrix = {"properties": {"matrix": {"required": ["target"]}}, "required": ["matrix"]}
    role = {"anyOf": [{"required": _required(ROLE)}, {"required": ["config_file"]}]}
    return {
        "required": [name for name in _required(TOP) if name != "targets"],
        "properties": {"models": {"required": ["main"], "additionalProperties": role}},
        "anyOf": [has_targets, chosen_by_matrix],
        "allOf": [
            {"if": has_draft, "then": has_speculative},
            {"if": has_speculative, "then": has_draft},
        ],
    }


def schema_text() -> str:
    """Return the schema as the text of its file."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def write_json_schema(path: Path) -> None:
    """Write the schema to `path`, where editors find it by the first line of a manifest."""
    path.write_text(schema_text(), encoding="utf-8")


def _object(place: str, required: list[str] | None = None) -> dict[str, object]:
    """Return what stands at `place`; nothing but the options that do something is allowed there."""
    return {
        "description": PLACES[place],
        "type": "object",
        "properties": {option.name: _property(option) for option in options_at(place) if option.accepted},
        "required": _required(place) if required is None else required,
        "additionalProperties": False,
    }


def _required(place: str) -> list[str]:
    return [option.name for option in options_at(place) if option.required]


def _property(option: Option) -> dict[str, object]:
    default = list(option.default) if isinstance(option.default, tuple) else option.default
    told = {} if default is None or option.required else {"default": default}
    return {"description": option.help, **_type_of(option), **told, **_EXTRA.get(option.name, {})}


def _type_of(option: Option) -> dict[str, object]:
    match option.value_type:
        case ValueType.TEXT:
            return {"type": "string", "minLength": 1}
        case ValueType.CHOICE:
            return {"anyOf": [{"enum": list(option.choices)}, {"type": "string", **_REFERENCE}]}
        case ValueType.INTEGER:
            return {"type": ["integer", "string"], **_bounds_of(option), **_REFERENCE}
        case ValueType.NUMBER:
            return {"type": ["number", "string"], **_bounds_of(option), **_REFERENCE}
        case ValueType.BOOLEAN:
            return {"type": ["boolean", "string"], **_REFERENCE}
        case ValueType.LIST:
            return {"type": "array", "items": {"type": "string", "minLength": 1}}
        case ValueType.MAPPING:
            return {"type": "object"}


def _bounds_of(option: Option) -> dict[str, object]:
    bounds = {
        "minimum": option.minimum,
        "exclusiveMinimum": option.above,
        "maximum": option.maximum,
        "multipleOf": option.multiple,
    }
    return {name: bound for name, bound in bounds.items() if bound is not None}
