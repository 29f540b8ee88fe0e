"""The schema that editors read says what the program says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from maxbuild.manifest import json_schema, write_json_schema
from maxbuild.manifest.options import ROLE, SECTIONS, TOP, options_at

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
    sections = [place for place in SECTIONS if any(option.accepted for option in options_at(place))]
    assert len(objects) == len(["the manifest", "models", "one model", *sections])
    for part in objects:
        assert part["additionalProperties"] is False
        for name, property_ in part["properties"].items():
            described = definitions[property_["$ref"].split("/")[-1]] if "$ref" in property_ else property_
            assert described["description"], name


def test_schema_names_what_the_table_accepts() -> None:
    """Fields, required ones, defaults and bounds agree with what a manifest is validated by; none is a refused one."""
    schema: Any = json_schema()
    definitions: Any = schema["$defs"]
    for place in (TOP, ROLE, *SECTIONS):
        accepted = {option.name: option for option in options_at(place) if option.accepted}
        name = "model" if place == ROLE else place
        if place != TOP and not accepted:
            assert name not in definitions
            continue
        section = schema if place == TOP else definitions[name]
        assert section["properties"].keys() - SECTIONS == accepted.keys()
        required = {option.name for option in accepted.values() if option.required}
        assert set(section["required"]) == (required if place in SECTIONS else {"version"} & accepted.keys())
        for key, option in accepted.items():
            told = section["properties"][key]
            if option.default is not None and not option.required:
                assert told["default"] == (list(option.default) if option.default == () else option.default)
            assert told.get("anyOf", [{}])[0].get("enum", []) == list(option.choices)
            assert told.get("minimum") == option.minimum
            assert told.get("exclusiveMinimum") == option.above
            assert told.get("maximum") == option.maximum


def test_what_a_manifest_extends_may_say_what_it_lacks() -> None:
    """Only a manifest that extends no other has to say all that is needed; a matrix may choose its targets."""
    schema: Any = json_schema()
    assert schema["if"] == {"not": {"required": ["extends"]}}
    whole = schema["then"]
    assert set(whole["required"]) == {option.name for option in options_at(TOP) if option.required} - {"targets"}
    assert {"required": ["targets"]} in whole["anyOf"]
    assert whole["properties"]["models"]["required"] == ["main"]
    assert {"required": ["model_path"]} in whole["properties"]["models"]["additionalProperties"]["anyOf"]


def test_schema_is_json() -> None:
    """The schema is plain data of draft 2020-12."""
    assert json.loads(json.dumps(json_schema()))["$schema"] == "https://json-schema.org/draft/2020-12/schema"
