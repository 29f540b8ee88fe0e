"""What options of a model change in what `trace`, `load` and `package` leave, each by the name it has in a manifest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from model_families import make_config, make_eager_model
from multimodal import make_multimodal_config
from transformers import AutoModel

from maxbuild.engine import Digest, Job, hash_file
from maxbuild.errors import MaxbuildError, UnsupportedModel
from maxbuild.manifest import load_manifest
from maxbuild.plan import make_plan
from maxbuild.steps import load, package, trace

MODULES = [
    {"type": "sentence_transformers.models.Transformer", "path": ""},
    {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"},
    {"type": "sentence_transformers.models.Normalize", "path": "2_Normalize"},
]


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a language model of one layer, in float32."""
    folder = tmp_path_factory.mktemp("llama")
    make_eager_model(make_config("llama", num_hidden_layers=1)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def embedding_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an embedding model of one layer, with sentence-transformers' files."""
    folder = tmp_path_factory.mktemp("qwen3")
    AutoModel.from_config(make_config("qwen3", num_hidden_layers=1)).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    # As the hub's Qwen3-Embedding says it: the class of the model that it was made of.
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["Qwen3ForCausalLM"]}))
    (folder / "modules.json").write_text(json.dumps(MODULES))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_lasttoken": true}')
    return folder


def run_planned(model: Path, scratch: Path, kind: str, said: Mapping[str, Any]) -> Mapping[str, Path]:
    """Run the task of a kind that the plan of a manifest about `model` has; said: beside the model's path."""
    scratch.mkdir()
    sections = {name: value for name, value in said.items() if isinstance(value, dict)}
    role = {"model_path": str(model), **{name: value for name, value in said.items() if name not in sections}}
    manifest = {"version": 1, "name": "demo", "targets": ["cpu"], "models": {"main": role}, **sections}
    (scratch / "manifest.yaml").write_text(json.dumps(manifest))
    task = next(task for task in make_plan(load_manifest(scratch / "manifest.yaml")).tasks if task.kind == kind)
    inputs = {role: source.path for role, source in task.inputs.items()}
    step = {"trace": trace.run, "load": load.run}[kind]
    return step(Job(task.params, inputs, scratch, lambda *_: None))


def program_of(outputs: Mapping[str, Path]) -> Mapping[str, Any]:
    """Return the program that a trace left."""
    program: Mapping[str, Any] = json.loads(outputs["program"].read_bytes())
    return program


def regions_of(outputs: Mapping[str, Path]) -> Mapping[str, bytes]:
    """Return the graphs that a trace left."""
    return {name: path.read_bytes() for name, path in outputs.items() if name.startswith("regions/")}


@pytest.fixture(scope="module")
def plain(language_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Return what the trace of the language model leaves where nothing is said."""
    return run_planned(language_model, tmp_path_factory.mktemp("plain") / "trace", "trace", {})


def test_nothing_said_is_what_config_json_says(plain: Mapping[str, Path]) -> None:
    """The model's own length and dtype, chosen logits, one region for each kind of layer."""
    program = program_of(plain)
    assert (program["max_length"], program["dtype"], program["results"]) == (512, "float32", "chosen")
    assert regions_of(plain).keys() == {"regions/before", "regions/decoder.full", "regions/after"}


def test_max_length_is_in_the_program_and_in_no_region(
    language_model: Path, plain: Mapping[str, Path], tmp_path: Path
) -> None:
    """The longest row is the program's; graphs are the same to the byte, so nothing is compiled again."""
    traced = run_planned(language_model, tmp_path / "trace", "trace", {"max_length": 64})
    assert program_of(traced) == {**program_of(plain), "max_length": 64}
    assert regions_of(traced) == regions_of(plain)


def test_use_subgraphs_decides_between_regions_and_one_graph(language_model: Path, tmp_path: Path) -> None:
    """`false`: one region that holds the whole model, run in one step."""
    traced = run_planned(language_model, tmp_path / "trace", "trace", {"use_subgraphs": False})
    assert regions_of(traced).keys() == {"regions/model"}
    assert [step["region"] for step in program_of(traced)["steps"]] == ["model"]


def test_quantization_encoding_decides_what_is_stored_and_computed(language_model: Path, tmp_path: Path) -> None:
    """bfloat16: in the program, in the weights that regions take, and in the files that a load writes."""
    said = {"quantization_encoding": "bfloat16"}
    traced = run_planned(language_model, tmp_path / "trace", "trace", said)
    assert program_of(traced)["dtype"] == "bfloat16"
    graph = json.loads(traced["regions/decoder.full"].read_bytes())
    assert {spec["dtype"] for spec in graph["inputs"] if spec["kind"] == "weight"} == {"bfloat16"}
    loaded = run_planned(language_model, tmp_path / "load", "load", said)
    assert json.loads(loaded["index"].read_bytes())["encoding"] == "bfloat16"
    assert "weights/packed-00000.safetensors" in loaded


def test_kv_cache_format_is_the_dtype_of_caches(
    language_model: Path, plain: Mapping[str, Path], tmp_path: Path
) -> None:
    """Caches of the program and of the layers' regions have it; what is around the layers stays as it is."""
    traced = run_planned(language_model, tmp_path / "trace", "trace", {"kv_cache": {"kv_cache_format": "bfloat16"}})
    assert {cache["dtype"] for cache in program_of(traced)["caches"]} == {"bfloat16"}
    assert {cache["dtype"] for cache in program_of(plain)["caches"]} == {"float32"}
    regions, others = regions_of(traced), regions_of(plain)
    assert {name for name in regions if regions[name] != others[name]} == {"regions/decoder.full"}


@pytest.mark.parametrize(
    ("said", "results"),
    [({"enable_echo": True}, "every"), ({"sampling": {"enable_variable_logits": True}}, "ragged")],
)
def test_options_about_logits_change_the_last_region_alone(
    language_model: Path, plain: Mapping[str, Path], tmp_path: Path, said: Mapping[str, Any], results: str
) -> None:
    """Which logits there are is in the program and in the graph that makes them."""
    traced = run_planned(language_model, tmp_path / "trace", "trace", said)
    assert program_of(traced)["results"] == results
    regions, others = regions_of(traced), regions_of(plain)
    assert {name for name in regions if regions[name] != others[name]} == {"regions/after"}


@pytest.mark.parametrize(
    ("said", "pooling"),
    [
        ({}, {"mode": "last", "normalized": True}),
        ({"pool_embeddings": True}, {"mode": "last", "normalized": True}),
        ({"pool_embeddings": False}, None),
    ],
)
def test_an_embedding_model_is_pooled_as_its_files_say_unless_told_not_to(
    embedding_model: Path, tmp_path: Path, said: Mapping[str, Any], pooling: object
) -> None:
    """sentence-transformers' files reach the trace by the plan, and `pool_embeddings: false` leaves tokens apart."""
    program = program_of(run_planned(embedding_model, tmp_path / "trace", "trace", said))
    assert (program["results"], program["pooling"]) == ("embedding", pooling)


def test_an_embedding_model_is_loaded_without_an_output_embedding(embedding_model: Path, tmp_path: Path) -> None:
    """Its weights stay in their file, and are all that its program names."""
    loaded = run_planned(embedding_model, tmp_path / "load", "load", {})
    index = json.loads(loaded["index"].read_bytes())["tensors"]
    assert not [name for name in index if "lm_head" in name]
    assert loaded["weights/model.safetensors"] == embedding_model / "model.safetensors"
    program = program_of(run_planned(embedding_model, tmp_path / "trace", "trace", {}))
    assert {name for step in program["steps"] for name in step["weights"]} <= index.keys()


@pytest.mark.parametrize("said", [{"enable_echo": True}, {"sampling": {"enable_variable_logits": True}}])
def test_an_embedding_model_is_asked_for_no_logits(
    embedding_model: Path, tmp_path: Path, said: Mapping[str, Any]
) -> None:
    """An option that could do nothing is refused."""
    with pytest.raises(UnsupportedModel, match="embedding model has none"):
        run_planned(embedding_model, tmp_path / "trace", "trace", said)


def test_pooling_is_not_asked_of_a_language_model(language_model: Path, tmp_path: Path) -> None:
    """Neither is it done in silence, nor left."""
    with pytest.raises(UnsupportedModel, match="language model"):
        run_planned(language_model, tmp_path / "trace", "trace", {"pool_embeddings": True})


def test_vision_config_overrides_stand_in_the_packaged_config(tmp_path: Path) -> None:
    """A server reads the merged values; numbers with a point arrive as numbers, and texts as texts."""
    make_multimodal_config().save_pretrained(tmp_path)
    inputs = {"main/config.json": tmp_path / "config.json"}
    for name in ("program.json", "weights.json"):
        inputs[f"main/{name}"] = tmp_path / name
        inputs[f"main/{name}"].write_text('{"vocab_size": 1}')
    (tmp_path / "manifest.yaml").write_text(
        "version: 1\nname: demo\ntargets: [cpu]\nmodels:\n  main:\n    model_path: .\n"
        "    vision_config_overrides: {attention_dropout: 0.25, hidden_act: '0.25'}\n"
    )
    (tmp_path / "model.safetensors").touch()
    trace_task = next(t for t in make_plan(load_manifest(tmp_path / "manifest.yaml")).tasks if t.kind == "trace")
    params = {
        "name": "demo",
        "target": "cpu:x86-64-v3",
        "components": {"main": {"vision_config_overrides": trace_task.params["vision_config_overrides"]}},
        "speculative": None,
        "serving": {},
        "built_with": {},
    }
    digests = {role: Digest(hash_file(path)) for role, path in inputs.items()}
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    left = package.run(Job(params, inputs, scratch, lambda *_: None, digests=digests))
    config = json.loads(left["files/main/config.json"].read_bytes())
    assert (config["vision_config"]["attention_dropout"], config["vision_config"]["hidden_act"]) == (0.25, "0.25")
    assert config["text_config"]["attention_dropout"] == 0.0
    header = json.loads(left["package"].read_bytes())
    assert header["files"]["main/config.json"]["sha256"] == hash_file(left["files/main/config.json"])
    assert header["components"]["main"]["files"]["config.json"] == "main/config.json"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"rope_type": "neox"}, "GGUF"),
        ({"kv_cache": {"kv_cache_format": "float8_e4m3fn"}}, "scale"),
    ],
)
def test_what_has_no_meaning_here_is_refused_with_the_reason(
    language_model: Path, tmp_path: Path, said: Mapping[str, Any], reason: str
) -> None:
    """Rotary embeddings of GGUF weights, which are not read, and caches that would need scales."""
    with pytest.raises(MaxbuildError) as refused:
        run_planned(language_model, tmp_path / "trace", "trace", said)
    assert any(reason in block for block in refused.value.blocks())
