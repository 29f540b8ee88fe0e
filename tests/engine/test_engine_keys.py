"""Canonical JSON, documents, keys and explanations: one walk, so a key and its explanation cannot disagree."""

from __future__ import annotations

import json

import pytest
from conftest import toy
from hypothesis import given
from hypothesis import strategies as st

from maxbuild.engine import JSON, Digest, Document, OutputOf, Task, TaskKey, canonical_json, compare

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
values: st.SearchStrategy[JSON] = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
params = st.dictionaries(texts, values, max_size=3)


def document(value: dict[str, JSON]) -> Document:
    """Return a document with these parameters."""
    return Document("concat", value, {}, {}, ("out",))


def test_the_canonical_form_is_pinned() -> None:
    """The bytes, and with them every key, do not change by accident."""
    value: JSON = {"b": [1, True, None, {}], "a": "ä\n", "c": {"z": [], "y": -1}}
    assert canonical_json(value) == '{"a":"ä\\n","b":[1,true,null,{}],"c":{"y":-1,"z":[]}}'.encode()
    key = Document("k", {"p": 1}, {"r": Digest("0" * 64)}, {"t": "2"}, ("out",)).key()
    assert key == "6e141ddf85a3d40f99e73d87b9077e07eb9cd4fe8db744b17beb118ac49a7138"


@given(values)
def test_the_canonical_form_is_json(value: JSON) -> None:
    """It reads back as the same value, and is what the standard library would write."""
    assert json.loads(canonical_json(value)) == value
    standard = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    assert canonical_json(value).decode() == standard


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
