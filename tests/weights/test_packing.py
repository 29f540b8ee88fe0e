"""Packed tensors are those that transformers loads, bit for bit, and nothing that is right already is copied."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from model_families import as_region, make_config, make_eager_model, worst_error
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModel, AutoModelForCausalLM

from maxbuild.errors import WeightsError
from maxbuild.models.architecture import ENCODINGS, build_model, build_model_with_buffers, read_config
from maxbuild.models.outline import outline
from maxbuild.runtime.model import Model
from maxbuild.weights.packing import Place, pack

FAMILIES = ["llama", "gemma3_text", "gpt2", "phi3", "qwen3_moe", "mixtral", "deepseek_v2"]
FAMILIES += ["deepseek_v3", "glm4_moe"]  # these two keep buffers in checkpoints, in float32 whatever the rest is in


def save_model(folder: Path, family: str, shard_size: str = "5GB") -> Path:
    """Save a random model whose parameters and buffers are not what they start as."""
    model = make_eager_model(make_config(family))
    for name, buffer in model.named_buffers():
        if name in model.state_dict():
            buffer.fill_(0.37)
    model.save_pretrained(folder, max_shard_size=shard_size)
    return folder


def pack_folder(folder: Path, output: Path, encoding: str) -> tuple[Mapping[str, Place], Mapping[str, Tensor]]:
    """Pack a model's folder; return the places, and each tensor by name."""
    config = read_config(folder, trust_remote_code=False)
    model = build_model_with_buffers(config, ENCODINGS[encoding], trust_remote_code=False)
    files = {path.name: path for path in folder.glob("*.safetensors")}
    (folder / "model.safetensors.index.json").unlink(missing_ok=True)  # a build does not need it
    places, used = pack(model, files, folder, output, trust_remote_code=False)
    packed = {file: load_file(path) for file, path in used.items()}
    return places, {name: packed[place.file][place.tensor] for name, place in places.items()}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("shard_size", ["5GB", "200KB"])
@pytest.mark.parametrize("family", FAMILIES)
def test_tensors_are_those_of_from_pretrained(tmp_path: Path, family: str, encoding: str, shard_size: str) -> None:
    """Every parameter and buffer equals that of the model which transformers loads in the same dtype."""
    folder = save_model(tmp_path / "model", family, shard_size)
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=ENCODINGS[encoding])
    expected = {**dict(loaded.named_parameters()), **dict(loaded.named_buffers())}
    _, tensors = pack_folder(folder, tmp_path / "packed", encoding)
    assert tensors.keys() == expected.keys()
    for name, tensor in tensors.items():
        assert torch.equal(tensor, expected[name]), name
        assert tensor.dtype == expected[name].dtype, name


@pytest.mark.parametrize("family", ["qwen3_moe", "deepseek_v3"])
def test_checkpoint_to_logits(tmp_path: Path, family: str) -> None:
    """From weight files by way of pack and outline to logits: the whole way that a build goes, uncompiled."""
    folder = save_model(tmp_path / "model", family, "200KB")
    eager = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    _, tensors = pack_folder(folder, tmp_path / "packed", "float32")
    config = read_config(folder, trust_remote_code=False)
    outlined = outline(build_model(config, torch.float32, 512, trust_remote_code=False), 512, use_subgraphs=True)
    regions = {name: as_region(graph.to_module(torch.device("cpu"))) for name, graph in outlined.regions.items()}
    assert worst_error(Model(outlined.program, regions, tensors), eager, [20, 13, 7]) < 1e-4


def test_nothing_is_copied_that_is_right_as_it_is(tmp_path: Path) -> None:
    """A checkpoint in the wanted dtype stays where it is; only what no checkpoint holds is written."""
    places, _ = pack_folder(save_model(tmp_path / "model", "llama"), tmp_path / "packed", "float32")
    written = [name for name, place in places.items() if place.file != "model.safetensors"]
    assert all("inv_freq" in name for name in written)


def test_tensors_that_are_tied_and_differ_are_refused(tmp_path: Path) -> None:
    """Where config.json ties what the files hold twice and differently, nobody guesses."""
    folder = save_model(tmp_path / "model", "gemma3_text")
    path = folder / "model.safetensors"
    tensors = load_file(path)
    save_file({**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"] + 1}, path, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"ties `lm_head\.weight`"):
        pack_folder(folder, tmp_path / "packed", "float32")
    save_file(
        {**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"].clone()}, path, metadata={"format": "pt"}
    )
    places, _ = pack_folder(folder, tmp_path / "again", "float32")
    assert "lm_head.weight" not in places


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("saved_as", ["language model", "embedding model"])
def test_an_embedding_model_takes_its_weights_from_either_checkpoint(tmp_path: Path, saved_as: str, tied: bool) -> None:
    """Names with and without the prefix of a language model; its output embedding is left aside; nothing is copied."""
    config = make_config("qwen3", num_hidden_layers=2, tie_word_embeddings=tied)
    made = make_eager_model(config) if saved_as == "language model" else AutoModel.from_config(config)
    folder = tmp_path / "model"
    made.save_pretrained(folder)
    expected = AutoModel.from_pretrained(folder, dtype=torch.float32).state_dict()
    config = read_config(folder, trust_remote_code=False)
    model = build_model_with_buffers(config, torch.float32, trust_remote_code=False, embedding=True)
    files = {"model.safetensors": folder / "model.safetensors"}
    places, used = pack(model, files, folder, tmp_path / "packed", trust_remote_code=False, embedding=True)
    held = {file: load_file(path) for file, path in used.items()}
    stored = {name: place for name, place in places.items() if place.file == "model.safetensors"}
    assert stored.keys() == expected.keys()
    assert all(torch.equal(held[place.file][place.tensor], expected[name]) for name, place in stored.items())


def test_what_an_embedding_model_has_no_use_for_is_still_refused_by_name(tmp_path: Path) -> None:
    """Of what the model does not know, the output embedding alone is left aside."""
    folder = save_model(tmp_path / "model", "qwen3")
    path = folder / "model.safetensors"
    save_file({**load_file(path), "classifier.weight": torch.zeros(2)}, path, metadata={"format": "pt"})
    config = read_config(folder, trust_remote_code=False)
    model = build_model_with_buffers(config, torch.float32, trust_remote_code=False, embedding=True)
    with pytest.raises(WeightsError) as refused:
        pack(model, {path.name: path}, folder, tmp_path / "packed", trust_remote_code=False, embedding=True)
    assert "classifier.weight" in str(refused.value)
