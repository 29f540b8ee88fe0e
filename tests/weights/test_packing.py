"""Packed tensors are those that transformers loads, bit for bit, and nothing that is right already is copied."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from model_families import make_config
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from maxbuild.models.architecture import ENCODINGS, build_model_with_buffers, read_config
from maxbuild.weights.packing import pack


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt2", "phi3", "qwen3_moe", "mixtral", "deepseek_v2"])
def test_tensors_are_those_of_from_pretrained(tmp_path: Path, family: str, encoding: str) -> None:
    """Every parameter and buffer equals that of the model which transformers loads in the same dtype."""
    folder = tmp_path / "model"
    AutoModelForCausalLM.from_config(make_config(family)).save_pretrained(folder)
    config = read_config(folder, trust_remote_code=False)
    model = build_model_with_buffers(config, ENCODINGS[encoding], trust_remote_code=False)
    files = {path.name: path for path in folder.glob("*.safetensors")}
    places, used = pack(model, files, folder, tmp_path / "packed", trust_remote_code=False)

    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=ENCODINGS[encoding])
    expected = {**dict(loaded.named_parameters()), **dict(loaded.named_buffers())}
    packed = {file: load_file(path) for file, path in used.items()}
    assert places.keys() == expected.keys()
    for name, place in places.items():
        assert torch.equal(packed[place.file][place.tensor], expected[name]), name
        assert packed[place.file][place.tensor].dtype == expected[name].dtype, name


def test_nothing_is_copied_that_is_right_as_it_is(tmp_path: Path) -> None:
    """A checkpoint in the wanted dtype stays where it is; only what no checkpoint holds is written."""
    folder = tmp_path / "model"
    AutoModelForCausalLM.from_config(make_config("llama")).save_pretrained(folder)
    model = build_model_with_buffers(
        read_config(folder, trust_remote_code=False), torch.float32, trust_remote_code=False
    )
    path = folder / "model.safetensors"
    places, used = pack(model, {path.name: path}, folder, tmp_path / "packed", trust_remote_code=False)
    assert used[path.name] == path
    written = [name for name, place in places.items() if place.file != path.name]
    assert all("inv_freq" in name for name in written)
