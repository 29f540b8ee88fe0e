"""Packages of embedding models, and of models with logits of every token, built, run and verified by the command."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from model_families import make_config, make_eager_model
from spaces import MODELS, Space
from transformers import AutoModel, AutoTokenizer, PreTrainedModel

pytestmark = pytest.mark.slow

PROMPT = "one two three"


def save_with_tokenizer(model: PreTrainedModel, folder: Path) -> None:
    """Save a model, and the demo's tokenizer beside it."""
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(MODELS / "tiny-gemma3" / name, folder)


def warm(space: Space, said: str) -> Path:
    """Build a manifest about the model in the space's folder as one region, and return the package."""
    manifest = space.folder / "manifest.yaml"
    manifest.write_text(
        "version: 1\nname: small\ntargets: [cpu]\n"
        f"models: {{main: {{model_path: ./model, max_length: 64, use_subgraphs: false{said}}}}}\n"
        "kv_cache: {kv_cache_format: bfloat16}\n"
    )
    done = space.maxbuild("warm", manifest)
    assert done.returncode == 0, done.stderr
    return space.folder / done.stdout.strip()


def vocabulary() -> int:
    """Return the size of the demo tokenizer's vocabulary."""
    size: int = json.loads((MODELS / "tiny-gemma3" / "config.json").read_text())["vocab_size"]
    return size


def test_an_embedding_model_from_manifest_to_vector(space: Space) -> None:
    """`run` prints the prompt's vector as JSON, `verify` compares it with transformers, and nothing is generated."""
    folder = space.folder / "model"
    model = AutoModel.from_config(make_config("qwen3", num_hidden_layers=1, vocab_size=vocabulary())).eval()
    save_with_tokenizer(model, folder)
    modules = [
        {"type": f"sentence_transformers.models.{kind}", "path": f"1_{kind}"} for kind in ("Transformer", "Pooling")
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    package = warm(space, "")
    done = space.maxbuild("run", package, "--prompt", PROMPT)
    assert done.returncode == 0, done.stderr
    tokens = AutoTokenizer.from_pretrained(folder)(PROMPT, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        expected = model(input_ids=tokens).last_hidden_state[0].mean(dim=0)
    torch.testing.assert_close(torch.tensor(json.loads(done.stdout)), expected, atol=5e-2, rtol=0)
    told = json.loads(space.maxbuild("run", package, "--prompt", PROMPT, "--json").stdout)
    assert (told["embedding"], told["prompt_tokens"]) == (json.loads(done.stdout), tokens.shape[1])
    verified = space.maxbuild("verify", package)
    assert verified.returncode == 0, verified.stdout
    assert "main/embeddings" in verified.stdout
    refused = space.maxbuild("run", package, "--prompt", PROMPT, "--echo")
    assert refused.returncode == 2
    assert "embedding model" in refused.stderr


def test_a_prompt_is_echoed_with_how_likely_it_is(space: Space) -> None:
    """`enable_echo`: `run --echo` writes the prompt before the text, and tells each token's log-probability."""
    folder = space.folder / "model"
    model = make_eager_model(make_config("llama", num_hidden_layers=1, vocab_size=vocabulary()))
    save_with_tokenizer(model, folder)
    package = warm(space, ", enable_echo: true")
    arguments = ("run", package, "--prompt", PROMPT, "--max-new-tokens", "4", "--echo")
    done = space.maxbuild(*arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(PROMPT)
    assert "perplexity" in done.stderr
    told = json.loads(space.maxbuild(*arguments, "--json").stdout)["prompt"]
    tokens = AutoTokenizer.from_pretrained(folder)(PROMPT, return_tensors="pt")["input_ids"]
    assert [entry["token"] for entry in told] == tokens[0].tolist()
    with torch.inference_mode():
        likely = torch.log_softmax(model(tokens).logits[0, :-1], dim=-1).gather(1, tokens[0, 1:, None])[:, 0]
    assert told[0]["log_probability"] is None
    for entry, expected in zip(told[1:], likely.tolist(), strict=True):
        assert math.isclose(entry["log_probability"], expected, abs_tol=5e-2)
    assert space.maxbuild("verify", package).returncode == 0
