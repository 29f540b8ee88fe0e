"""Whatever the bytes of a manifest and of what it refers to, a Manifest comes of them or an error that can be shown."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from unittest import mock

from hypothesis import example, given, settings
from hypothesis import strategies as st

from maxbuild.errors import ManifestError, UsageError, from_json, render
from maxbuild.manifest import Manifest, load_manifest
from maxbuild.manifest.flags import Flag, all_flags, takes_value
from maxbuild.manifest.options import KNOWN_ROLES, OPTIONS, SECTIONS

SAMPLES = Path(__file__).parents[1] / "samples"
WHOLE = (SAMPLES / "everything.yaml").read_bytes()

scalars = st.sampled_from(
    [
        "",
        "~",
        "1",
        "0",
        "-1",
        "512",
        "'512'",
        "true",
        "no",
        "cpu",
        "a/b",
        "./x",
        "float32",
        "q4_k",
        "standalone",
        "greedy",
        *["1.5", "{}", "[]", "[cpu]", "&a x", "*a", "!!str 1", "é", '"\\0"', '"\\e[31m"', "{{ x }}", "'{{ x }}'"],
    ]
)
keys = st.sampled_from(
    [option.name for option in OPTIONS] + [*SECTIONS, *KNOWN_ROLES, "<<", "max-length", "1", "~", ""]
)
flow = st.recursive(
    scalars,
    lambda inner: (
        st.dictionaries(keys, inner, max_size=4).map(
            lambda entries: "{" + ", ".join(f"{key}: {value}" for key, value in entries.items()) + "}"
        )
        | st.lists(inner, max_size=3).map(lambda items: "[" + ", ".join(items) + "]")
    ),
    max_leaves=12,
)
tops = st.lists(st.tuples(keys, flow), max_size=8).map(
    lambda entries: "".join(f"{key}: {value}\n" for key, value in entries).encode()
)
edits = st.tuples(st.integers(0, len(WHOLE)), st.integers(0, 12), st.binary(max_size=4) | flow.map(str.encode)).map(
    lambda edit: WHOLE[: edit[0]] + edit[2] + WHOLE[edit[0] + edit[1] :]
)


def outcome_of(data: bytes, overrides: list[str]) -> Manifest | ManifestError:
    """Load `data` as a manifest beside the samples' models."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "manifest.yaml"
        path.write_bytes(data)
        try:
            return load_manifest(path, overrides=overrides)
        except ManifestError as error:
            return error


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=200) | tops | edits, overrides=st.lists(st.text(max_size=20), max_size=1))
@example(data=b"%YAML 99999999999999999999.1\n---\na: 1\n", overrides=[])
@example(data=b"%TAG ! !\n--- !x\n", overrides=[])
@example(data=b"\xef\xbb\xbf", overrides=[])
@example(data=b"a: \xed\xa0\x80", overrides=[])
@example(data=WHOLE, overrides=["main.model_path=\0", "=.=", "main.chat_template=\0"])
@example(data=WHOLE, overrides=["main.model_path=" + "x" * 5000, "main.subfolder=" + "y/" * 3000])
def test_any_bytes_give_a_manifest_or_problems_with_places(data: bytes, overrides: list[str]) -> None:
    """No input leads to any other exception, and every error can be shown and sent to another process."""
    outcome = outcome_of(data, overrides)
    if isinstance(outcome, ManifestError):
        assert render(outcome).startswith("error: ")
        assert render(from_json(outcome.to_json())) == render(outcome)
        for problem in outcome.problems:
            assert problem.line >= 0
            assert problem.message


# What the other ways of saying values are made of: names of the files below, variables, axes, sections of a file.
references = st.sampled_from(
    [
        *[
            "base.yaml",
            "other.yaml",
            "./manifest.yaml",
            "no.yaml",
            ".",
            "/",
            "~",
            "~nobody/x",
            "a\0b",
            "x" * 300,
            "config.yaml",
        ],
        *[
            "${env:A}",
            "'${env:B}'",
            "'${env:}'",
            "'$${env:A}'",
            "'${env:A}${env:A}'",
            "${env:${env:A}}",
            "${env:A",
            "'{env:}'",
        ],
        *[
            "float32",
            "bfloat16",
            "5",
            "'5'",
            "true",
            "~",
            "cpu:x86-64-v2",
            "toaster",
            "s",
            "none",
            "[]",
            "{}",
            "[5]",
            "{a: 5}",
        ],
    ]
)
words = st.sampled_from(
    [
        "target",
        "targets",
        "include",
        "exclude",
        "max_length",
        "main.max_length",
        "quantization_encoding",
        "draft.x",
        "main.",
        ".",
        "main.vision_config_overrides.a",
        "speculative.num_speculative_tokens",
        "model_path",
        "config_file",
        "section_name",
        "A",
        "B",
    ]
)
parts = st.recursive(
    references,
    lambda inner: (
        st.dictionaries(words, inner, max_size=3).map(
            lambda entries: "{" + ", ".join(f"{key}: {value}" for key, value in entries.items()) + "}"
        )
        | st.lists(inner, max_size=3).map(lambda items: "[" + ", ".join(items) + "]")
    ),
    max_leaves=8,
)
PLAIN = "version: 1\nname: demo\ntargets: [cpu:x86-64-v2]\n"
MODELS = "models: {main: {model_path: a/b}, draft: {model_path: a/b}}\n"
ways = st.sampled_from(["extends", "environment", "matrix", "overrides"])
manifests = st.tuples(
    st.sampled_from([PLAIN, PLAIN + MODELS, MODELS, ""]),
    st.dictionaries(ways, parts, max_size=3),
    st.dictionaries(st.sampled_from(["config_file", "section_name", "max_length", "model_path"]), parts, max_size=2),
).map(
    lambda drawn: (
        drawn[0]
        + "".join(f"{key}: {value}\n" for key, value in drawn[1].items())
        + (
            "models: {main: {" + ", ".join(f"{k}: {v}" for k, v in drawn[2].items()) + "}}\n"
            if "models" not in drawn[0]
            else ""
        )
    )
)
flags = st.sampled_from(all_flags()).flatmap(
    lambda spelling: (
        (st.text(max_size=9) | references | scalars | flow).map(lambda text: Flag(spelling, text))
        if takes_value(spelling)
        else st.just(Flag(spelling))
    )
)


@settings(max_examples=150, deadline=None)
@given(
    files=st.tuples(manifests, manifests, manifests, parts | st.just("s: {max_length: 5}")),
    said=st.lists(flags, max_size=3),
    alone=st.booleans(),
    variants=st.lists(st.sampled_from(["float32", "5", "", ",", "x"]), max_size=1),
    variable=st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=8),
)
@example(
    files=("extends: [base.yaml]", "extends: [manifest.yaml]", "", ""), said=[], alone=False, variants=[], variable=""
)
def test_any_way_of_saying_gives_a_manifest_or_problems_with_places(
    files: tuple[str, ...], said: list[Flag], alone: bool, variants: list[str], variable: str
) -> None:
    """Circles, matrices, variables, sections and flags of any kind end in values or in an error, never otherwise."""
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, {"A": variable}):
        for name, text in zip(("manifest.yaml", "base.yaml", "other.yaml", "config.yaml"), files, strict=True):
            (Path(folder) / name).write_text(text, encoding="utf-8")
        path = None if alone else Path(folder) / "manifest.yaml"
        outcome = outcome_of_words(path, said, variants)
        if isinstance(outcome, UsageError):
            assert render(outcome).startswith("error: ")
            assert render(from_json(outcome.to_json())) == render(outcome)
        else:
            assert all(variant.targets and variant.name for variant in outcome.variants or (outcome,))


def outcome_of_words(path: Path | None, said: list[Flag], variants: list[str]) -> Manifest | UsageError:
    """Load the manifest at `path` with these words of a command line."""
    try:
        return load_manifest(path, flags=said, variants=variants)
    except UsageError as error:
        return error
