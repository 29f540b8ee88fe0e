"""Make `tiny-tern`: a Tern with random weights, the same bytes on every host. It talks nonsense."""

from __future__ import annotations

import argparse
import json
import random
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from tern import TernConfig, TernForCausalLM

HERE = Path(__file__).parent
TOKENIZER = HERE.parent / "models" / "tiny-gemma3"
CONFIG = {
    "architectures": ["TernForCausalLM"],
    "model_type": "tern",
    "dtype": "bfloat16",
    "vocab_size": 704,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-06,
    "tie_word_embeddings": True,
}


def make(out: Path) -> None:
    """Write config, weights and the demo models' tokenizer to `out`."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in TernForCausalLM(TernConfig(**CONFIG)).named_parameters()}
    # Python's own generator gives the same numbers everywhere; torch promises that of none of its own.
    numbers = random.Random(10)
    tensors = {name: _draw(name, shape, numbers) for name, shape in sorted(shapes.items())}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copyfile(TOKENIZER / name, out / name)


def _draw(name: str, shape: torch.Size, numbers: random.Random) -> torch.Tensor:
    """Return weights that keep the size of what passes through them; those of norms lie about one."""
    scale = 0.2 if len(shape) == 1 else shape[-1] ** -0.5
    if name.endswith(("q_proj.weight", "k_proj.weight")):
        scale *= 3  # sharp attention, or what came before hardly matters to the next token
    drawn = torch.tensor([numbers.gauss(0.0, scale) for _ in range(shape.numel())]).reshape(shape)
    return (drawn + 1 if name.endswith("norm.weight") else drawn).to(torch.bfloat16)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "tiny-tern")
    make(parser.parse_args().out)
