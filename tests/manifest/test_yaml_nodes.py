"""YAML is read within bounds, with places, and with the meanings of YAML 1.2."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from maxbuild.errors import ManifestError
from maxbuild.manifest.document import Document, plain, read_document
from maxbuild.manifest.nodes import Fault, Mapping, Position, Scalar, compose


def read(folder: Path, text: str) -> Document:
    """Read a document of `text`."""
    path = folder / "manifest.yaml"
    path.write_text(text, encoding="utf-8")
    return read_document(path)


def test_each_value_and_key_knows_its_place(tmp_path: Path) -> None:
    """Line and column count from 1, in letters and not in bytes."""
    document = read(tmp_path, "# é\nä: {b: [1, é, x]}\n")
    assert (document.key_place(("ä",)).line, document.key_place(("ä",)).column) == (2, 1)
    assert document.value_place(("ä", "b", 2)).column == 15
    assert document.value_place(("ä", "b", 2)).source == "ä: {b: [1, é, x]}"


def test_place_of_what_is_missing_is_the_key_it_is_missing_under(tmp_path: Path) -> None:
    """There is always somewhere to point at."""
    document = read(tmp_path, "a:\n  b: {c: 1}\n")
    assert (document.value_place(("a", "b", "x")).line, document.value_place(("a", "b", "x")).column) == (2, 3)
    assert document.value_place(("x",)).line == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("-3", -3),
        ("012", "012"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("1.5", 1.5),
        ("-.5e-3", -0.0005),
        ("1e5", 100000.0),
        ("1e999", "1e999"),
        (".inf", ".inf"),
        ("9" * 30, "9" * 30),
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("on", "on"),
        ("~", None),
        ("null", None),
        ("2024-01-01", "2024-01-01"),
        ("'12'", "12"),
        ("!!str 12", "12"),
    ],
)
def test_plain_scalar_means_what_yaml_1_2_says(tmp_path: Path, text: str, value: object) -> None:
    """No octal, no `yes`, no date: only whole numbers, `true`, `false` and nothing are not text."""
    assert plain(read(tmp_path, f"a: {text}\n").root["a"]) == value


def test_merge_key_takes_the_first_of_several(tmp_path: Path) -> None:
    """Own keys win over merged ones, and earlier merged mappings over later ones."""
    root = plain(read(tmp_path, "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], x: 3}\n").root)
    assert isinstance(root, dict)
    assert root["c"] == {"x": 3, "y": 1, "z": 2}


def test_merge_key_of_something_else_is_a_problem(tmp_path: Path) -> None:
    """`<<` merges mappings only."""
    (problem,) = read(tmp_path, "a: {<<: 1}\n").problems
    assert problem.message == "`<<` takes a mapping, or a list of mappings"


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        "{a: " * 100_000,
        "- " * 200_000,
        "a: &a [x, x]\n"
        + "".join(f"{c}: &{c} [*{p}, *{p}, *{p}]\n" for p, c in zip("abcdefghijk", "bcdefghijkl", strict=True)),
        "a: &a {}\n"
        + "".join(
            f"{c}: &{c} {{<<: [*{p}, *{p}]}}\n"
            for p, c in zip("abcdefghijklmnopqrst", "bcdefghijklmnopqrstu", strict=True)
        ),
        "a: [" + "x," * 100_000 + "]",
        "".join(f"k{number}: x\n" for number in range(60_000)),
    ],
    ids=["lists", "mappings", "blocks", "aliases", "merges", "items", "keys"],
)
def test_bomb_is_refused_at_once(tmp_path: Path, text: str) -> None:
    """Depth and number of values are bounded, also once aliases are replaced; the process survives."""
    start = time.monotonic()
    with pytest.raises(ManifestError, match=r"nested deeper|more than"):
        read(tmp_path, text)
    assert time.monotonic() - start < 10


def test_chain_of_aliases_is_refused_where_it_gets_too_deep(tmp_path: Path) -> None:
    """Depth counts through aliases too."""
    text = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 60))
    with pytest.raises(ManifestError, match="nested deeper"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a]: b", "a key must be a word"),
        ("? {a: b}\n: c", "a key must be a word"),
        ("a: !thing x", "the YAML tag `!thing` has no meaning"),
        ("a: !!set {x}", "has no meaning"),
        ("a: &x {b: *x}", "stands inside its own anchor"),
        ("a: *x", "no anchor `&x`"),
        ("a: 1\n--- \nb: 1", "a second one starts"),
        ("[" * 33, "nested deeper than 32 levels"),
        ("a: '", "not valid YAML"),
        ("a: \x01", r"the character U\+0001"),
    ],
)
def test_what_is_no_manifest_is_a_fault_with_a_position(text: str, message: str) -> None:
    """Everything that YAML allows and a manifest has no use for is refused at its place."""
    with pytest.raises(Fault, match=message) as caught:
        compose(text)
    assert caught.value.position.line >= 1


def test_key_that_is_an_alias_stands_where_it_is_used() -> None:
    """The position of a repeated key is that of the repetition."""
    root = compose("a: &k b\n*k : c\n")
    assert isinstance(root, Mapping)
    assert root.entries[1] == (Scalar(Position(2, 1), "b", plain=True), Scalar(Position(2, 6), "c", plain=True))
