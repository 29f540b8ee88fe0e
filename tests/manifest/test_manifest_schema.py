"""The schema that editors read says what the program says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from maxbuild.manifest import ModelConfig, SpeculativeConfig, json_schema, write_json_schema

COMMITTED = Path(__file__).parents[2] / "manifests" / "manifest.schema.json"


def objects_of(schema: object) -> list[dict[str, Any]]:
    """Return every part of `schema` that has properties of its own."""
    match schema:
        case dict():
            inner = [part for value in schema.values() for part in objects_of(value)]
            return [schema, *inner] if "properties" in schema and "type" in schema else inner
        case list():
            return [part for value in schema for part in objects_of(value)]
        case _:
            return []


def test_committed_schema_is_the_one_of_the_program(tmp_path: Path) -> None:
    """The file beside the manifests is what `write_json_schema` writes."""
    write_json_schema(tmp_path / "schema.json")
    assert COMMITTED.read_bytes() == (tmp_path / "schema.json").read_bytes(), (
        "run: python -c 'import pathlib, maxbuild.manifest as m; "
        'm.write_json_schema(pathlib.Path("manifests/manifest.schema.json"))\''
    )


def test_schema_is_strict_and_described_everywhere() -> None:
    """No object takes further keys, and every property says what it is."""
    schema = json_schema()
    definitions: Any = schema["$defs"]
    objects = objects_of(schema)
    assert len(objects) == 4
    for part in objects:
        assert part["additionalProperties"] is False
        for name, property_ in part["properties"].items():
            described = definitions[property_["$ref"].split("/")[-1]] if "$ref" in property_ else property_
            assert described["description"], name


def test_schema_names_the_fields_and_defaults_of_the_models() -> None:
    """Fields, required fields and defaults agree with what a manifest is validated by."""
    definitions: Any = json_schema()["$defs"]
    for name, model in (("model", ModelConfig), ("speculative", SpeculativeConfig)):
        section = definitions[name]
        assert set(section["properties"]) == set(model.model_fields)
        assert set(section["required"]) == {key for key, field in model.model_fields.items() if field.is_required()}
        for key, property_ in section["properties"].items():
            if "default" in property_:
                assert property_["default"] == model.model_fields[key].default


def test_schema_is_json() -> None:
    """The schema is plain data of draft 2020-12."""
    assert json.loads(json.dumps(json_schema()))["$schema"] == "https://json-schema.org/draft/2020-12/schema"
