"""The manifest's JSON schema, made of the option table: what an editor accepts and completes is what is supported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from maxbuild.manifest.options import (
    EFFECTIVE_ROLES,
    NAME_PATTERN,
    ROLE,
    SPECULATIVE,
    TOP,
    Option,
    ValueType,
    options_at,
)

# What the table of options has no word for.
_EXTRA: Final[dict[str, dict[str, object]]] = {
    "version": {"const": 1},
    "name": {"pattern": f"^{NAME_PATTERN}$"},
    "targets": {"minItems": 1, "items": {"type": "string", "minLength": 1}},
    "overrides": {"items": {"type": "string", "pattern": "^[^.=]+[.][^=]+=.+$"}},
    # A commit that happens to be all digits is read as the text it is; an editor takes it for a number.
    "huggingface_model_revision": {"type": ["string", "integer"]},
    "use_subgraphs": {"default": True},
    "emit_ptx": {"default": False},
    "trust_remote_code": {"default": False},
    "rejection_sampling_strategy": {"default": "greedy"},
}


def json_schema() -> dict[str, object]:
    """Return the schema of a manifest, in draft 2020-12."""
    top = {option.name: _property(option) for option in options_at(TOP) if option.effective}
    roles = {role: {"$ref": "#/$defs/model"} for role in EFFECTIVE_ROLES}
    top["models"] = {
        **top["models"],
        "properties": roles,
        "required": ["main"],
        "additionalProperties": False,
    }
    top["speculative"] = {"$ref": "#/$defs/speculative"}
    has_draft = {"properties": {"models": {"required": ["draft"]}}, "required": ["models"]}
    has_speculative = {"required": ["speculative"]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "maxbuild manifest",
        "description": "What to build: models by role, and the targets to build them for.",
        "type": "object",
        "properties": top,
        "required": ["version", "name", "targets", "models"],
        "additionalProperties": False,
        "allOf": [
            {"if": has_draft, "then": has_speculative},
            {"if": has_speculative, "then": has_draft},
        ],
        "$defs": {
            "model": _section(ROLE, "One model under its role.", ("model_path",)),
            "speculative": _section(
                SPECULATIVE,
                "Speculative decoding: how the draft's tokens come about and how they are accepted.",
                ("speculative_method", "num_speculative_tokens"),
            ),
        },
    }


def schema_text() -> str:
    """Return the schema as the text of its file."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def write_json_schema(path: Path) -> None:
    """Write the schema to `path`, where editors find it by the first line of a manifest."""
    path.write_text(schema_text(), encoding="utf-8")


def _section(place: str, description: str, required: tuple[str, ...]) -> dict[str, object]:
    return {
        "description": description,
        "type": "object",
        "properties": {option.name: _property(option) for option in options_at(place) if option.effective},
        "required": list(required),
        "additionalProperties": False,
    }


def _property(option: Option) -> dict[str, object]:
    return {"description": option.help, **_type_of(option), **_EXTRA.get(option.name, {})}


def _type_of(option: Option) -> dict[str, object]:
    match option.value_type:
        case ValueType.TEXT:
            return {"type": "string", "minLength": 1}
        case ValueType.CHOICE:
            return {"type": "string", "enum": list(option.choices)}
        case ValueType.INTEGER:
            return {"type": "integer"} | ({} if option.minimum is None else {"minimum": option.minimum})
        case ValueType.NUMBER:
            return {"type": "number"}
        case ValueType.BOOLEAN:
            return {"type": "boolean"}
        case ValueType.LIST:
            return {"type": "array"}
        case ValueType.MAPPING:
            return {"type": "object"}
