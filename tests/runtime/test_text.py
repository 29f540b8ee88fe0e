"""Text to tokens: the model's own tokenizer, template and stop tokens, as transformers has them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from spaces import ROOT
from transformers import AutoTokenizer

from maxbuild.errors import PackageError, UsageError
from maxbuild.runtime.package import ComponentEntry
from maxbuild.runtime.text import Text

MODEL = ROOT / "examples" / "models" / "tiny-gemma3"


def text_of(folder: Path) -> Text:
    """Return the text side of a model's folder."""
    files = {path.name: path.name for path in folder.iterdir() if path.suffix in {".json", ".jinja"}}
    return Text(folder, ComponentEntry("", "", {}, files, None))


def test_encodes_and_decodes_as_transformers_does() -> None:
    """Tokens of plain texts and of conversations equal transformers'."""
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    ours = text_of(MODEL)
    for words in ("one two three", "Ünïcode 🙂 text", ""):
        assert ours.encode(words) == tokenizer(words)["input_ids"]
        assert ours.decode(ours.encode(words)) == tokenizer.decode(
            tokenizer(words)["input_ids"], skip_special_tokens=True
        )
    chat = [{"role": "user", "content": "what is 3 + 4 ?"}]
    assert ours.encode_chat(chat) == tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
    assert ours.stop_tokens == {1, 4}


def test_streams_whole_characters() -> None:
    """Pieces add up to the text, and none is half a character."""
    ours = text_of(MODEL)
    words = "one 🙂 two é three"
    pieces = list(ours.stream(iter(ours.encode(words))))
    assert "".join(pieces) == words
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)


def test_settings_left_in_the_tokenizer_do_not_cut_prompts(tmp_path: Path) -> None:
    """Truncation and padding that a fine-tune saved are not applied."""
    shutil.copytree(MODEL, tmp_path / "model")
    path = tmp_path / "model" / "tokenizer.json"
    document = json.loads(path.read_text())
    document["truncation"] = {"max_length": 2, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    path.write_text(json.dumps(document))
    assert text_of(tmp_path / "model").encode("one two three four") == text_of(MODEL).encode("one two three four")


def test_a_broken_tokenizer_and_a_refusing_template_are_told(tmp_path: Path) -> None:
    """Neither ends in a traceback."""
    shutil.copytree(MODEL, tmp_path / "model")
    with pytest.raises(UsageError, match="refuses"):
        text_of(tmp_path / "model").encode_chat([{"role": "assistant", "content": "first"}])
    (tmp_path / "model" / "tokenizer.json").write_text("{}")
    with pytest.raises(PackageError, match="tokenizer"):
        text_of(tmp_path / "model")
