"""Models that cannot be built are refused by `trace` and `load` in words: what is wrong, and the way out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from model_families import make_config
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from maxbuild.engine import Job
from maxbuild.errors import MaxbuildError, UnsupportedModel, WeightsError
from maxbuild.steps import load, trace


@pytest.fixture(scope="session")
def whole_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a right, tiny Llama."""
    folder = tmp_path_factory.mktemp("llama")
    AutoModelForCausalLM.from_config(make_config("llama", num_hidden_layers=2)).save_pretrained(folder)
    return folder


@pytest.fixture
def model(whole_model: Path, tmp_path: Path) -> Path:
    """Return a copy of the model that may be broken."""
    return Path(shutil.copytree(whole_model, tmp_path / "model"))


def job(model: Path, scratch: Path, params: Mapping[str, Any]) -> Job:
    """Return the job of a step over a model's folder."""
    scratch.mkdir()
    inputs = {"config.json": model / "config.json"}
    inputs |= {f"weights/{path.name}": path for path in model.glob("*.safetensors")}
    return Job(params, inputs, scratch, lambda *_: None)


def run_load(model: Path, scratch: Path, **params: Any) -> Mapping[str, Path]:
    """Run the load step."""
    return load.run(job(model, scratch, params))


def run_trace(model: Path, scratch: Path, **params: Any) -> Mapping[str, Path]:
    """Run the trace step."""
    return trace.run(job(model, scratch, {"max_length": 64, **params}))


def edit_config(model: Path, **changes: Any) -> None:
    """Change values of config.json."""
    path = model / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_weights(model: Path, *, drop: str | None = None, add: Mapping[str, torch.Tensor] | None = None) -> None:
    """Drop or add tensors of the weight file."""
    path = model / "model.safetensors"
    tensors = {name: tensor for name, tensor in load_file(path).items() if name != drop}
    save_file({**tensors, **(add or {})}, path, metadata={"format": "pt"})


def test_the_unbroken_model_traces_and_loads(model: Path, tmp_path: Path) -> None:
    """The other tests break a model that is right: weights stay in their file, and the program names all of them."""
    outputs = run_load(model, tmp_path / "load")
    assert outputs["weights/model.safetensors"] == model / "model.safetensors"
    index = json.loads(outputs["index"].read_bytes())["tensors"]
    program = json.loads(run_trace(model, tmp_path / "trace")["program"].read_bytes())
    assert {name for step in program["steps"] for name in step["weights"]} <= index.keys()


def test_trace_reads_no_weights(model: Path, tmp_path: Path) -> None:
    """Tracing works where the weight file is unreadable nonsense."""
    (model / "model.safetensors").write_bytes(b"nonsense")
    assert "program" in run_trace(model, tmp_path / "trace")


def test_a_config_of_no_known_architecture(model: Path, tmp_path: Path) -> None:
    """An unknown `model_type` is named."""
    edit_config(model, model_type="no_such_model")
    with pytest.raises(UnsupportedModel, match="no_such_model"):
        run_trace(model, tmp_path / "trace")


@pytest.mark.parametrize(("content", "says"), [(b"{", "not JSON"), (b"[]", "not a JSON object"), (b"{}", "model_type")])
def test_a_config_that_is_none(model: Path, tmp_path: Path, content: bytes, says: str) -> None:
    """Broken JSON, another value and an empty object are told apart."""
    (model / "config.json").write_bytes(content)
    with pytest.raises(UnsupportedModel, match=says):
        run_trace(model, tmp_path / "trace")


@pytest.mark.parametrize("change", [{"hidden_size": "abc"}, {"num_attention_heads": 0}])
def test_a_config_with_impossible_values(model: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    """Whatever a wrong value leads to inside transformers, it is told as the model's fault."""
    edit_config(model, **change)
    with pytest.raises(UnsupportedModel):
        run_trace(model, tmp_path / "trace")


def test_repository_code_without_trust(model: Path, tmp_path: Path) -> None:
    """Code that comes with a model runs only where the manifest says so."""
    edit_config(model, auto_map={"AutoConfig": "configuration_evil.Evil"}, model_type="evil")
    with pytest.raises(UnsupportedModel) as caught:
        run_trace(model, tmp_path / "trace")
    assert "trust_remote_code: true" in str(caught.value.hint)


def test_more_positions_than_the_model_has(model: Path, tmp_path: Path) -> None:
    """A `max_length` beyond the model's positions names both numbers."""
    with pytest.raises(UnsupportedModel, match=r"4096.*512"):
        run_trace(model, tmp_path / "trace", max_length=4096)


def test_an_encoding_that_cannot_be_built(model: Path, tmp_path: Path) -> None:
    """Weights in float16 need a choice by the user."""
    edit_config(model, dtype="float16")
    with pytest.raises(UnsupportedModel, match="float16"):
        run_trace(model, tmp_path / "trace")


def test_a_missing_tensor(model: Path, tmp_path: Path) -> None:
    """The tensor that is in no file is named."""
    edit_weights(model, drop="model.layers.1.mlp.up_proj.weight")
    with pytest.raises(WeightsError) as caught:
        run_load(model, tmp_path / "load")
    assert "model.layers.1.mlp.up_proj.weight" in str(caught.value)


def test_a_tensor_too_many(model: Path, tmp_path: Path) -> None:
    """The tensor that the model does not know is named."""
    edit_weights(model, add={"model.layers.7.mlp.up_proj.weight": torch.zeros(128, 64)})
    with pytest.raises(WeightsError) as caught:
        run_load(model, tmp_path / "load")
    assert "model.layers.7.mlp.up_proj.weight" in str(caught.value)


@pytest.mark.parametrize("encoding", [None, "bfloat16"])
def test_shapes_that_disagree_with_the_config(model: Path, tmp_path: Path, encoding: str | None) -> None:
    """The tensor and both shapes are named."""
    edit_config(model, intermediate_size=96)
    with pytest.raises(WeightsError) as caught:
        run_load(model, tmp_path / "load", **({} if encoding is None else {"quantization_encoding": encoding}))
    text = str(caught.value)
    assert "mlp.up_proj.weight` has shape [128, 64], the config makes it [96, 64]" in text


@pytest.mark.parametrize("keep", [0, 4, 8, 100, -100, -1])
def test_a_truncated_file(model: Path, tmp_path: Path, keep: int) -> None:
    """Wherever it is cut, a weight file is called damaged."""
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match=r"model\.safetensors"):
        run_load(model, tmp_path / "load")


def test_a_file_that_goes_on_after_its_tensors(model: Path, tmp_path: Path) -> None:
    """Bytes that the header does not speak of are an error."""
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(WeightsError, match="damaged"):
        run_load(model, tmp_path / "load")


def test_a_corrupt_header(model: Path, tmp_path: Path) -> None:
    """A header with a wrong byte is an error, whatever the byte."""
    path = model / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[9] = 0xFF
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="damaged"):
        run_load(model, tmp_path / "load")


def test_errors_of_steps_survive_the_way_to_another_process(model: Path, tmp_path: Path) -> None:
    """What a step raises can be told by the process that started it."""
    from maxbuild.errors import from_json, render

    (model / "model.safetensors").write_bytes(b"")
    with pytest.raises(MaxbuildError) as caught:
        run_load(model, tmp_path / "load")
    assert render(from_json(caught.value.to_json())) == render(caught.value)


def test_trusted_repository_code_is_used(model: Path, tmp_path: Path) -> None:
    """With `trust_remote_code` the repository's own classes are traced, from the files that the task was given."""
    (model / "configuration_own.py").write_text(
        "from transformers import LlamaConfig\n\n\nclass OwnConfig(LlamaConfig):\n    model_type = 'own_llama'\n"
    )
    (model / "modeling_own.py").write_text(
        "from transformers import LlamaForCausalLM\n\nfrom .configuration_own import OwnConfig\n\n\n"
        "class OwnForCausalLM(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    own = {"AutoConfig": "configuration_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
    edit_config(model, auto_map=own, model_type="own_llama", architectures=["OwnForCausalLM"])
    trusted = job(model, tmp_path / "trace", {"max_length": 64, "trust_remote_code": True})
    trusted = replace(trusted, inputs={**trusted.inputs, **{f"code/{p.name}": p for p in model.glob("*.py")}})
    assert "program" in trace.run(trusted)
    loading = replace(trusted, scratch=tmp_path / "load")
    loading.scratch.mkdir()
    assert "index" in load.run(loading)
    assert list((tmp_path / "trace" / "modules").rglob("modeling_own.py"))
    assert list((tmp_path / "load" / "modules").rglob("modeling_own.py"))
