"""Canonical JSON, documents, keys and explanations: one walk, so a key and its explanation cannot disagree."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from conftest import toy
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import params, texts, values

from maxbuild.engine import JSON, Digest, Document, OutputOf, Task, TaskKey, canonical_json, compare, hash_bytes
from maxbuild.engine.document import SCHEMA

GOLDEN: list[dict[str, Any]] = json.loads((Path(__file__).parent / "golden" / "keys.json").read_text())["schemas"]
VECTORS = {vector["name"]: vector for golden in GOLDEN for vector in golden["vectors"] if golden["schema"] == SCHEMA}

SEALS = {
    # No line here ever changes. When documents or their canonical form do, `SCHEMA` grows, `golden/keys.json` gets a
    # list of vectors for it beside the old ones, and this table a line.
    1: "ff570c8855d7073e558e4141861f8169a6dfb3df97f4803425af353026d8620d",
}

ONE, TWO = hash_bytes(b"one"), hash_bytes(b"two")


def document(value: dict[str, JSON]) -> Document:
    """Return a document with these parameters."""
    return Document("concat", value, {}, {}, ("out",))


@pytest.mark.parametrize("name", VECTORS)
def test_golden_documents_have_the_keys_they_always_had(name: str) -> None:
    """The canonical form and the key of a document change with the schema alone: a store is read by later versions."""
    vector = VECTORS[name]
    described = Document.from_json(vector["document"])
    assert canonical_json(described.to_json()).decode() == vector["canonical"]
    assert described.key() == vector["key"]


def test_golden_vectors_are_sealed() -> None:
    """Every schema there was has its vectors, and none was ever changed; the newest schema is the one in use."""
    sealed = {golden["schema"]: hash_bytes(json.dumps(golden["vectors"], sort_keys=True).encode()) for golden in GOLDEN}
    assert sealed == SEALS
    assert max(sealed) == SCHEMA


def test_golden_vectors_hold_by_themselves() -> None:
    """A key is the sha256 of a domain, a zero byte and the plain form: nothing of the engine is needed to tell."""
    for golden in GOLDEN:
        for vector in golden["vectors"]:
            assert plain_form(vector["document"]) == vector["canonical"]
            assert vector["document"]["schema"] == golden["schema"]
            content = f"{golden['domain']}\0{vector['canonical']}".encode()
            assert hashlib.sha256(content).hexdigest() == vector["key"]
        assert len({vector["key"] for vector in golden["vectors"]}) == len(golden["vectors"])


def test_the_example_in_the_documentation_is_true() -> None:
    """docs/store-format.md shows a canonical form and its key."""
    page = (Path(__file__).parents[2] / "docs" / "store-format.md").read_text()
    vector = VECTORS["the example of docs/store-format.md"]
    assert vector["canonical"] in page
    assert vector["key"] in page


def plain_form(value: JSON) -> str:
    """Return the canonical form of `value`, as docs/store-format.md describes it and without help from a library."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, int):
        return format(value, "d")
    if isinstance(value, str):
        return f'"{"".join(map(plain_character, value))}"'
    if isinstance(value, Mapping):
        members = sorted(value, key=lambda name: [ord(character) for character in name])
        return f"{{{','.join(f'{plain_form(name)}:{plain_form(value[name])}' for name in members)}}}"
    return f"[{','.join(map(plain_form, value))}]"


def plain_character(character: str) -> str:
    """Return one character of a JSON text: quotation mark, backslash and the first 32 are escaped, no other is."""
    short = {8: "b", 9: "t", 10: "n", 12: "f", 13: "r", 34: '"', 92: "\\"}
    code = ord(character)
    return f"\\{short[code]}" if code in short else f"\\u{code:04x}" if code < 32 else character


@given(values)
def test_the_canonical_form_is_plain_json(value: JSON) -> None:
    """It reads back as the same value, is what the documentation describes, and what the standard library writes."""
    form = canonical_json(value).decode()
    assert json.loads(form) == value
    assert form == plain_form(value)
    assert form == json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


@given(st.dictionaries(texts, values, max_size=3), st.dictionaries(texts, values, max_size=3))
@example({"a": 1}, {"a": True})
@example({"a": 1}, {"a": "1"})
@example({"a": []}, {"a": {}})
@example({"a": (1, 2)}, {"a": [1, 2]})
def test_a_document_knows_its_spelling_without_walking(params: JSON, others: JSON) -> None:
    """What `is_spelled` says of two documents is whether their canonical forms, and so their keys, are equal."""
    known = document(params)
    assert known.is_spelled(known.text)
    assert known.is_spelled(document(others).text) == (known.key() == document(others).key())


def test_what_has_no_canonical_form_is_spelled_by_nothing() -> None:
    """A number that is no whole one, or an object of no kind, equals nothing that was ever written."""
    for value in (1.0, {1}, object()):
        assert not document({"a": value}).is_spelled(document({"a": 1}).text)


def test_text_that_is_not_unicode_is_refused() -> None:
    """Half of a surrogate pair has no UTF-8 form, so no key."""
    with pytest.raises(UnicodeEncodeError):
        document({"text": "\ud800"}).key()


@given(params, st.randoms(use_true_random=False))
def test_the_order_of_members_is_not_in_the_key(value: dict[str, JSON], random: Random) -> None:
    """Maps that say the same, in whatever order they were made, are the same; so are tuples and lists."""
    assert document(shuffled(value, random)).key() == document(value).key()
    assert canonical_json([1, (2, 3)]) == canonical_json((1, [2, 3]))


def shuffled(value: Any, random: Random) -> Any:
    """Return `value` with the members of every map in another order."""
    if isinstance(value, list):
        return [shuffled(item, random) for item in value]
    if not isinstance(value, dict):
        return value
    names = random.sample(sorted(value), len(value))
    return {name: shuffled(value[name], random) for name in names}


DOCUMENT = Document("concat", {"text": "x"}, {"a": ONE, "b": TWO}, {"torch": "2.13"}, ("out",))
OTHER_FIELDS: Mapping[str, list[Any]] = {
    "kind": ["parity", "Concat", ""],
    "params": [{}, {"text": "y"}, {"text": "x", "more": None}, {"Text": "x"}, {"text": ["x"]}],
    "inputs": [{}, {"a": ONE}, {"a": TWO, "b": ONE}, {"a": ONE, "c": TWO}, {"a": ONE, "b": TWO, "c": TWO}],
    "toolchain": [{}, {"torch": "2.13.0"}, {"triton": "2.13"}, {"torch": "2.13", "triton": "none"}],
    "outputs": [(), ("other",), ("out", "more"), ("out/*",)],
    "schema": [SCHEMA + 1],
}


@pytest.mark.parametrize("field", [field.name for field in fields(Document)])
def test_every_field_of_a_document_is_in_the_key(field: str) -> None:
    """Documents that differ in one field, however little, have different keys, and an explanation that tells it."""
    others = [replace(DOCUMENT, **{field: other}) for other in OTHER_FIELDS[field]]
    assert len({DOCUMENT.key(), *(other.key() for other in others)}) == 1 + len(others)
    assert all(compare(DOCUMENT, other) for other in others)


OTHER_TASKS: Mapping[str, tuple[Any, bool]] = {
    # what a field can be instead, and whether it is in the key
    "name": ("another name", False),
    "kind": ("parity", True),
    "params": ({"text": "y"}, True),
    "inputs": ({"b": OutputOf("t", "out")}, True),
    "toolchain": ({"torch": "2.12"}, True),
    "outputs": (("out", "parts/*"), True),
    "local": ({"token": "secret"}, False),
    "memory": (2**30, False),
    "always": (True, False),
}


@pytest.mark.parametrize("field", [field.name for field in fields(Task)])
def test_what_is_in_the_key_of_a_task(field: str) -> None:
    """Names, and what a step is only told in passing, are not in the key; all else is, and no field is forgotten."""
    task = Task("t", "concat", {"text": "x"}, {"a": OutputOf("s", "out")}, {"torch": "2.13"}, ("out",))
    value, counts = OTHER_TASKS[field]
    other = replace(task, **{field: value})
    keys = {Document.of(each, dict.fromkeys(each.inputs, ONE)).key() for each in (task, other)}
    assert (len(keys) == 2) is counts


@given(st.permutations(["out", "list", "parts/*", "a/b"]))
def test_the_order_of_outputs_is_not_in_the_key(outputs: list[str]) -> None:
    """A task declares a set of outputs."""
    assert Document.of(toy("t", "k", outputs=tuple(outputs)), {}).outputs == ("a/b", "list", "out", "parts/*")


def test_two_inputs_that_change_places_are_another_task() -> None:
    """An input is its role and its content: the same two contents, the other way round, are other work."""
    there, back = (replace(DOCUMENT, inputs=inputs) for inputs in ({"a": ONE, "b": TWO}, {"b": ONE, "a": TWO}))
    assert there.key() != back.key()
    assert {(part.what, part.old, part.new) for part in compare(there, back)} == {("a", ONE, TWO), ("b", TWO, ONE)}


@pytest.mark.parametrize("value", [1.5, {"a": {"b": 1.0}}, {1: "x"}, {"a": b"x"}, {"a": {1, 2}}])
def test_what_has_no_canonical_form_is_refused(value: JSON) -> None:
    """Floats, names that are not text and foreign types are errors that name the place."""
    with pytest.raises(TypeError):
        canonical_json(value)


@given(params, params)
def test_a_key_differs_exactly_when_there_is_something_to_explain(old: dict[str, JSON], new: dict[str, JSON]) -> None:
    """The walk that makes the key is the one that makes the explanation."""
    before, after = document(old), document(new)
    assert (before.key() != after.key()) == bool(compare(before, after))
    assert all(difference.old != difference.new for difference in compare(before, after))


@given(params)
def test_a_document_comes_back_from_json(value: dict[str, JSON]) -> None:
    """What is stored beside a result answers the same key."""
    before = document(value)
    assert Document.from_json(json.loads(json.dumps(before.to_json()))).key() == before.key()


@pytest.mark.parametrize("text", ["", "0" * 63, "0" * 65, "A" * 64, "g" * 64, "0" * 64 + "\n"])
def test_digests_and_keys_are_checked(text: str) -> None:
    """Only 64 lower-case hexadecimal digits are a digest or a key."""
    for kind in (Digest, TaskKey):
        with pytest.raises(ValueError, match="not a sha256"):
            kind(text)


@pytest.mark.parametrize("output", ["", "/a", "../a", "a/../b", "a//b", "./a", "a/", "*", "a*b", "/*"])
def test_output_names_stay_in_their_folder(output: str) -> None:
    """An output is a plain relative name, so nothing can be written elsewhere by it."""
    with pytest.raises(ValueError, match=r"output|sha256"):
        Task("t", "k", {}, {}, {}, (output,))


def test_families_declare_their_members() -> None:
    """`parts/*` stands for every name below it, and for nothing else."""
    task = toy("t", "k", outputs=("list", "parts/*"))
    assert task.declares("list")
    assert task.declares("parts/a")
    assert task.declares("parts/a/b")
    assert not task.declares("parts/*")
    assert not task.declares("parts/")
    assert not task.declares("party/a")
    assert toy("u", "k", {"r": OutputOf("t", "list")}).producers == {"t"}
