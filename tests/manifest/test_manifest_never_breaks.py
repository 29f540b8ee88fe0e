"""Whatever the bytes of a manifest, what comes of them is a Manifest or an error that can be shown."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from maxbuild.errors import ManifestError, from_json, render
from maxbuild.manifest import Manifest, load_manifest
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
