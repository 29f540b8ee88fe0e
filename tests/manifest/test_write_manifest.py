"""A manifest written out: it reads as people write it, and loads again to the same values."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manifest_files import HEAD, write

from maxbuild.manifest import LocalFolder, load_manifest
from maxbuild.manifest.document import Place, parse_value, plain
from maxbuild.manifest.flags import Flag
from maxbuild.manifest.load import Words, read_variants
from maxbuild.manifest.write import manifest_text, value_lines


def written(path: Path | None, folder: Path, **words: object) -> str:
    """Return the text of what is read at `path`, for a file in `folder`."""
    (reading,) = read_variants(path, Words(**words))  # type: ignore[arg-type]
    return manifest_text(reading, folder)


def test_flags_are_written_as_the_manifest_that_says_them() -> None:
    """The whole text, in the order of the option table, without what nobody said."""
    flags = [
        Flag("--model", "google/gemma-3-12b-it"),
        Flag("--draft-model-path", "google/gemma-3-1b-it"),
        Flag("--huggingface-model-revision", "0123"),
        Flag("--device-memory-utilization", "0.5"),
    ]
    text = written(
        None, Path(), flags=flags, targets=["cuda:sm_90", "cpu:x86-64-v3"], overrides=["main.max_length=4096"]
    )
    assert text == (
        "version: 1\n"
        "name: gemma-3-12b-it\n"
        "targets: [cuda:sm_90, cpu:x86-64-v3]\n"
        "models:\n"
        "  main:\n"
        "    model_path: google/gemma-3-12b-it\n"
        '    huggingface_model_revision: "0123"\n'
        "    max_length: 4096\n"
        "  draft:\n"
        "    model_path: google/gemma-3-1b-it\n"
        "speculative:\n"
        "  speculative_method: standalone\n"
        "  num_speculative_tokens: 4\n"
        "kv_cache:\n"
        "  device_memory_utilization: 0.5\n"
    )


def test_everything_that_is_said_is_applied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left to be looked up elsewhere, and every path leads to where it led before."""
    monkeypatch.setenv("LENGTH", "64")
    for name in ("deep/model", "out"):
        (tmp_path / name).mkdir(parents=True)
    path = write(
        tmp_path,
        {
            "top.yaml": "version: 1\nextends: deep/base.yaml\nname: top\nmatrix: {main.use_subgraphs: [true, false]}\n",
            "deep/base.yaml": HEAD + "environment: [LENGTH]\nmodels:\n"
            "  main: {model_path: ./model, chat_template: chat.jinja, max_length: '${env:LENGTH}',\n"
            "    config_file: c.yaml}\n",
            "deep/c.yaml": "served_model_name: 'no'\n",
            "deep/chat.jinja": "hello",
        },
    )
    text = written(path, tmp_path / "out", variants=["no_use_subgraphs"])
    assert text == (
        "version: 1\nname: top-no_use_subgraphs\ntargets: [cpu:x86-64-v2]\nmodels:\n  main:\n"
        "    model_path: ../deep/model\n    max_length: 64\n    use_subgraphs: false\n"
        '    chat_template: ../deep/chat.jinja\n    served_model_name: "no"\n'
    )
    again = load_manifest(write(tmp_path, {"out/again.yaml": text})).models["main"]
    assert again.source == LocalFolder(tmp_path / "deep" / "model")
    assert (again.chat_template, again.max_length, again.served_model_name) == ("hello", 64, "no")


def test_template_is_written_as_a_block(tmp_path: Path) -> None:
    """A text of several lines stays readable."""
    text = f"{HEAD}models:\n  main:\n    model_path: a/b\n    chat_template: |\n      {{{{ x }}}}\n\n        y: # z\n"
    block = "    chat_template: |2\n      {{ x }}\n\n        y: # z\n"
    path = write(tmp_path, {"top.yaml": text})
    assert block in written(path, tmp_path)
    again = write(tmp_path, {"again.yaml": written(path, tmp_path)})
    assert load_manifest(again).models["main"].chat_template == "{{ x }}\n\n  y: # z\n"


texts = st.text(st.characters(codec="utf-8"), max_size=20) | st.sampled_from(
    [
        "",
        " ",
        "no",
        "~",
        "null",
        "1",
        "1.5",
        "1e5",
        "-",
        "- a",
        "a: b",
        "a #b",
        "#",
        "*a",
        "&a",
        "!a",
        "%",
        "@",
        "`",
        "\ta",
        "a\n",
        "a\nb",
        "a\n\nb\n",
        "\na",
        "a \nb",
        "a\n\n",
        "\x85",
        "\u2028",
        "\ufeff",
        "\x00",
        "😀",
        "012",
        "0x1",
        "[",
        "{x}",
        "cpu:x86-64-v3",
        "a:",
        ":a",
        "a,b",
        "'a'",
        '"a"',
        "\\",
        "<<",
        "yes",
        "2024-01-01",
        ".inf",
        "+1",
        "=",
        "${env:X}",
    ]
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(texts.filter(lambda key: key != "<<"), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(key=st.sampled_from(["chat_template", "x"]), value=values)
def test_any_value_is_read_as_it_was_written(key: str, value: object) -> None:
    """Whatever a value is, its text means it and nothing else, in a block as on one line."""
    text = "\n".join(value_lines(key, value)) + "\n"
    read = parse_value(text, Place("written"))
    assert isinstance(read, dict), (text, read)
    assert plain(read) == {key: value}, text
    assert _types(plain(read)[key]) == _types(value)  # type: ignore[index]


def _types(value: object) -> object:
    match value:
        case list():
            return [_types(item) for item in value]
        case dict():
            return {key: _types(item) for key, item in value.items()}
        case _:
            return type(value)
