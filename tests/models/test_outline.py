"""Outlining: a program over regions computes what the model computes, for every family, at any depth."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from model_families import FAMILIES, bind, make_config, make_eager_model, worst_error
from transformers import AutoConfig, PreTrainedConfig

from maxbuild.engine import canonical_json
from maxbuild.errors import UnsupportedModel
from maxbuild.models.architecture import build_model
from maxbuild.models.graph import RegionGraph
from maxbuild.models.outline import Outline, outline

TOLERANCE = 1e-4


def trace(config: PreTrainedConfig, *, use_subgraphs: bool = True, max_length: int = 512) -> Outline:
    """Outline a config and send its regions through their JSON form, as a build does."""
    model = build_model(config, torch.float32, max_length, trust_remote_code=False)
    outlined = outline(model, max_length, use_subgraphs=use_subgraphs)
    stored = {name: canonical_json(graph.to_json()) for name, graph in outlined.regions.items()}
    return Outline(outlined.program, {name: RegionGraph.from_json(json.loads(data)) for name, data in stored.items()})


@pytest.mark.parametrize("family", FAMILIES)
def test_outlined_model_equals_eager(family: str) -> None:
    """Prefill and decode of one row, and of three rows of different lengths, give eager's logits."""
    eager = make_eager_model(make_config(family))
    model = bind(trace(make_config(family)), eager)
    assert worst_error(model, eager, [20]) < TOLERANCE
    assert worst_error(model, eager, [20, 13, 7]) < TOLERANCE


@pytest.mark.parametrize("family", ["gemma3_text", "qwen3_moe", "gpt2", "deepseek_v2"])
def test_one_region_of_the_whole_model_equals_eager(family: str) -> None:
    """`use_subgraphs: false` gives one region and the same results."""
    eager = make_eager_model(make_config(family))
    outlined = trace(make_config(family), use_subgraphs=False)
    assert list(outlined.regions) == ["model"]
    assert worst_error(bind(outlined, eager), eager, [20, 13, 7]) < TOLERANCE


def test_regions_do_not_grow_with_depth() -> None:
    """A deeper model has the same regions to the byte, and more steps."""
    shallow = trace(make_config("gemma3_text", num_hidden_layers=6))
    deep = trace(make_config("gemma3_text", num_hidden_layers=18))
    assert shallow.regions == deep.regions
    assert len(deep.program.steps) == len(shallow.program.steps) + 12


def test_regions_do_not_depend_on_max_length() -> None:
    """A longer row needs larger caches and no other code."""
    assert trace(make_config("llama"), max_length=64).regions == trace(make_config("llama"), max_length=512).regions


def test_sliding_and_full_layers_are_different_kinds() -> None:
    """Gemma 3 has two kinds of layers, told apart by their windows."""
    outlined = trace(make_config("gemma3_text"))
    used = [step.region for step in outlined.program.steps]
    assert used == ["before", *["decoder.sliding"] * 5, "decoder.full", "after"]


def test_dense_and_expert_layers_are_different_kinds() -> None:
    """A layer without experts between layers with experts is a kind of its own."""
    used = [step.region for step in trace(make_config("qwen3_moe")).program.steps]
    assert used[1:5] == ["decoder.full.1", "decoder.full.2", "decoder.full.1", "decoder.full.1"]


def test_program_and_regions_are_the_same_under_any_hash_seed() -> None:
    """What a model computes in the order of a set (Gemma 3's rotary embeddings) does not reach the trace."""
    script = (
        "import json; from test_outline import *; o = trace(make_config('gemma3_text'));"
        "print(json.dumps([o.program.to_json(), {n: g.to_json() for n, g in o.regions.items()}], sort_keys=True))"
    )
    folders = [str(Path(__file__).parent), str(Path(__file__).parent.parent), *sys.path]
    traced = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(folders)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(traced) == 1


def test_tied_weights_have_one_name() -> None:
    """The embedding that the output shares is named once, wherever it is used."""
    program = trace(make_config("gemma3_text")).program
    assert "model.embed_tokens.weight" in program.steps[-1].weights
    assert "lm_head.weight" not in program.weights


def test_trace_holds_one_attention_operator_per_layer_and_no_device() -> None:
    """A region says neither how attention is computed nor where."""
    region = trace(make_config("llama")).regions["decoder.full"]
    operators = [node.operator for node in region.nodes]
    assert operators.count("maxbuild.attention.default") == 1
    assert not [name for name in operators if "softmax" in name or "scaled_dot" in name]
    assert '"cpu"' not in json.dumps(region.to_json())
    assert '"meta"' not in json.dumps(region.to_json())


@pytest.mark.parametrize(
    ("family", "options", "reason"),
    [
        ("mamba", {"hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 256}, "attention"),
        ("bloom", {"hidden_size": 64, "n_layer": 2, "n_head": 4, "vocab_size": 256}, "attention, masks"),
        ("llama4_text", {"hidden_size": 64, "num_hidden_layers": 4, "vocab_size": 256}, "chunked"),
        ("llama", {"hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 256, "is_causal": False}, "bidirectional"),
        ("roberta", {"hidden_size": 48, "num_hidden_layers": 2, "vocab_size": 256, "is_decoder": True}, "padding"),
        ("t5", {"d_model": 64, "num_layers": 2, "vocab_size": 256}, "no causal language model"),
    ],
)
def test_refuses_with_the_reason_what_it_cannot_outline(family: str, options: dict[str, Any], reason: str) -> None:
    """An architecture beyond the method is named with its reason, never built wrong."""
    with pytest.raises(UnsupportedModel, match=reason):
        trace(AutoConfig.for_model(family, **options), max_length=64)


def test_rotary_frequencies_that_change_with_length_are_refused_beyond_their_original_length() -> None:
    """Up to the original length such a model is built; beyond it the limit is named."""
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    config = make_config("llama", rope_parameters=rope, max_position_embeddings=128)
    eager = make_eager_model(make_config("llama", rope_parameters=rope, max_position_embeddings=128))
    assert worst_error(bind(trace(config, max_length=128), eager), eager, [20]) < TOLERANCE
    with pytest.raises(UnsupportedModel, match="dynamic"):
        trace(config, max_length=256)
