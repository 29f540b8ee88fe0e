"""Multimodal checkpoints: their language model is built, for text; the rest is left out, its config can be changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from model_families import bind, make_config, worst_error
from multimodal import make_multimodal_config, save_multimodal_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from maxbuild.engine import Job
from maxbuild.errors import UnsupportedModel, WeightsError
from maxbuild.models.architecture import (
    ENCODINGS,
    build_complete_model,
    build_model,
    build_model_with_buffers,
    read_config,
)
from maxbuild.models.idle import idle_modules
from maxbuild.models.outline import outline
from maxbuild.models.vision_config import merge_vision_config
from maxbuild.steps import trace
from maxbuild.weights.packing import pack


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PreTrainedModel]:
    """Return the folder of a multimodal model, and the model."""
    folder = tmp_path_factory.mktemp("multimodal")
    return folder, save_multimodal_model(folder)


def test_what_text_never_runs_through_is_idle() -> None:
    """The tower for images and what leads from it to the language model, and nothing else."""
    complete = build_complete_model(make_multimodal_config(), torch.float32, trust_remote_code=False)
    assert set(idle_modules(complete)) == {"model.vision_tower", "model.multi_modal_projector"}


def test_the_language_model_computes_what_eager_does(saved: tuple[Path, PreTrainedModel]) -> None:
    """Text through the outlined model equals text through transformers' whole model, prefill and decode."""
    model = build_model(make_multimodal_config(), torch.float32, 512, trust_remote_code=False)
    outlined = outline(model, 512, use_subgraphs=True)
    assert [step.region for step in outlined.program.steps] == ["before", "decoder.sliding", "decoder.full", "after"]
    assert not [name for name in outlined.program.weights if "vision" in name or "projector" in name]
    assert worst_error(bind(outlined, saved[1]), saved[1], [20, 13, 7]) < 1e-4


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_weights_are_those_of_from_pretrained_under_the_checkpoints_names(
    saved: tuple[Path, PreTrainedModel], tmp_path: Path, encoding: str
) -> None:
    """`language_model.model.…` of the file is `model.language_model.…` of the model; what is right stays in place."""
    folder = Path(shutil.copytree(saved[0], tmp_path / "model"))
    dtype = ENCODINGS[encoding]
    model = build_model_with_buffers(read_config(folder, trust_remote_code=False), dtype, trust_remote_code=False)
    files = {"model.safetensors": folder / "model.safetensors"}
    places, used = pack(model, files, folder, tmp_path / "packed", trust_remote_code=False)
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    expected = {**dict(loaded.named_parameters()), **dict(loaded.named_buffers())}
    left_out = {name for name in expected if "vision_tower" in name or "projector" in name}
    assert places.keys() == expected.keys() - left_out
    held = {file: load_file(path) for file, path in used.items()}
    for name, place in places.items():
        assert torch.equal(held[place.file][place.tensor], expected[name]), name
    stored = {name for name, place in places.items() if place.file == "model.safetensors"}
    in_checkpoint = {name for name in loaded.state_dict() if name in places}
    assert stored == (in_checkpoint if encoding == "float32" else set())
    assert all(places[name].tensor.startswith("language_model.") for name in stored)


def test_a_tensor_that_is_in_no_part_of_the_model_is_refused(
    saved: tuple[Path, PreTrainedModel], tmp_path: Path
) -> None:
    """That the tower's weights are left aside does not let others pass."""
    folder = Path(shutil.copytree(saved[0], tmp_path / "model"))
    path = folder / "model.safetensors"
    tensors = {**load_file(path), "language_model.model.layers.9.mlp.up_proj.weight": torch.zeros(1)}
    save_file(tensors, path, metadata={"format": "pt"})
    model = build_model_with_buffers(
        read_config(folder, trust_remote_code=False), torch.float32, trust_remote_code=False
    )
    with pytest.raises(WeightsError) as refused:
        pack(model, {path.name: path}, folder, tmp_path / "packed", trust_remote_code=False)
    assert "layers.9" in str(refused.value)


def run_trace(folder: Path, scratch: Path, overrides: Mapping[str, Any]) -> Mapping[str, Path]:
    """Run the trace step over a model's folder with overrides of its vision config."""
    scratch.mkdir()
    params = {"max_length": 64, "vision_config_overrides": json.dumps(overrides)}
    return trace.run(Job(params, {"config.json": folder / "config.json"}, scratch, lambda *_: None))


def test_overrides_reach_the_config_that_is_traced(saved: tuple[Path, PreTrainedModel], tmp_path: Path) -> None:
    """They are merged by name, the text's values and the model's own file stay what they are."""
    before = (saved[0] / "config.json").read_bytes()
    folder = tmp_path / "laid-out"
    folder.mkdir()
    (folder / "config.json").symlink_to(saved[0] / "config.json")
    config = read_config(
        folder, trust_remote_code=False, vision_config_overrides={"attention_dropout": 0.25, "image_size": 56}
    )
    assert (config.vision_config.attention_dropout, config.vision_config.image_size) == (0.25, 56)
    assert config.vision_config.patch_size == 14
    assert config.text_config.attention_dropout == 0.0
    assert (saved[0] / "config.json").read_bytes() == before


def test_a_graph_of_text_does_not_depend_on_the_vision_config(
    saved: tuple[Path, PreTrainedModel], tmp_path: Path
) -> None:
    """Other images give the same program and regions, so nothing is compiled again."""
    plain, other = (
        run_trace(saved[0], tmp_path / name, values) for name, values in (("a", {}), ("b", {"image_size": 56}))
    )
    assert {name: path.read_bytes() for name, path in plain.items()} == {
        name: path.read_bytes() for name, path in other.items()
    }


def test_an_override_of_nothing_is_refused(saved: tuple[Path, PreTrainedModel], tmp_path: Path) -> None:
    """A name that the vision config does not have, and a value of a type that it cannot have."""
    with pytest.raises(UnsupportedModel, match="`image_sise`") as refused:
        run_trace(saved[0], tmp_path / "a", {"image_sise": 56})
    assert "`image_size`" in (refused.value.hint or "")
    with pytest.raises(UnsupportedModel):
        run_trace(saved[0], tmp_path / "b", {"image_size": "large"})


def test_a_model_without_a_vision_config_takes_no_overrides(tmp_path: Path) -> None:
    """The option is refused where there is nothing to merge into."""
    make_config("llama").save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModel, match="no `vision_config`"):
        run_trace(tmp_path, tmp_path / "scratch", {"image_size": 56})


def test_mappings_in_the_vision_config_are_merged_too() -> None:
    """An override of one value in a mapping leaves its neighbours; a list stands in as a whole."""
    document = {"vision_config": {"rope": {"theta": 1, "type": "default"}, "layers": [1, 2]}, "text_config": {}}
    merged = merge_vision_config(document, {"rope": {"theta": 2}, "layers": [3]})
    assert merged == {"vision_config": {"rope": {"theta": 2, "type": "default"}, "layers": [3]}, "text_config": {}}
