"""What the benches build and run: the demo, and random models of any size, each through the real `maxbuild warm`."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.harness import Command, child_environment, run_process, talk
from bench.machine import ROOT

DEMO_MANIFEST = ROOT / "manifests" / "demo.yaml"
DEMO_MODEL = ROOT / "examples" / "models" / "tiny-gemma3"
MAXBUILD = (sys.executable, "-m", "maxbuild")


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of a random Llama model; heads have 64 components, two query heads share a key/value head."""

    layers: int
    hidden: int
    vocabulary: int = 32_000

    def __str__(self) -> str:
        """Return a name for people."""
        return f"llama, {self.layers} layers of {self.hidden}"


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to run: its folder as transformers reads it, and the package that was built of it."""

    name: str
    model: Path
    package: Path
    has_draft: bool = False


def demo_subject(folder: Path, store: Path, target: str = "cpu", *overrides: str) -> Subject:
    """Return the demo, built for `target` into `folder` with `store`, and with `overrides` of its manifest."""
    package = warm(DEMO_MANIFEST, folder / "packages", store, target, *overrides)
    return Subject("tiny-gemma3", DEMO_MODEL, package, has_draft=True)


def random_subject(shape: Shape, folder: Path, store: Path, target: str = "cpu", *overrides: str) -> Subject:
    """Return a random model of `shape` with the demo's tokenizer, built like the demo."""
    model = write_random_llama(shape, folder / "random-llama")
    manifest = write_manifest(folder / "random.yaml", "random", model)
    return Subject(str(shape), model, warm(manifest, folder / "packages", store, target, *overrides))


def warm(manifest: Path, output: Path, store: Path, target: str = "cpu", *overrides: str) -> Path:
    """Build the package of `manifest` for `target` and return its folder. No GPU is visible to the build."""
    talk(f"building {manifest.name} for {target}")
    changes = [argument for override in overrides for argument in ("--override", override)]
    command: Command = [*MAXBUILD, "warm", manifest, "--target", target, "--output", output, *changes]
    done = run_process(command, child_environment(MAXBUILD_STORE=store, CUDA_VISIBLE_DEVICES=""))
    return Path(done.stdout.splitlines()[-1])


def write_manifest(path: Path, name: str, model: Path, **options: object) -> Path:
    """Write a manifest with the one model and options of it; a path and its parent are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    main = {"model_path": str(model), "max_length": 512, "quantization_encoding": "float32", **options}
    # JSON is YAML.
    path.write_text(json.dumps({"version": 1, "name": name, "targets": ["cpu"], "models": {"main": main}}))
    return path


def write_random_llama(shape: Shape, folder: Path) -> Path:
    """Write a Llama model of `shape` in float32 with random weights, the same ones every time."""
    import torch  # noqa: PLC0415 - most benches leave torch to their children
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415

    talk(f"making a random model: {shape}")
    torch.manual_seed(0)
    heads = max(2, shape.hidden // 64)
    config = LlamaConfig(
        hidden_size=shape.hidden,
        intermediate_size=3 * shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        vocab_size=shape.vocabulary,
        max_position_embeddings=1024,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(DEMO_MODEL / name, folder / name)
    return folder


def write_gemma_config(layers: int, hidden: int, folder: Path) -> Path:
    """Write a Gemma 3 config of which every fourth layer attends to all, and an empty weight file: none is read."""
    folder.mkdir(parents=True)
    kinds = ["full_attention" if index % 4 == 3 else "sliding_attention" for index in range(layers)]
    config = {
        "model_type": "gemma3_text",
        "architectures": ["Gemma3ForCausalLM"],
        "dtype": "float32",
        "hidden_size": hidden,
        "intermediate_size": 4 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": hidden // 4,
        "query_pre_attn_scalar": hidden // 4,
        "vocab_size": 8192,
        "max_position_embeddings": 1024,
        "sliding_window": 128,
        "layer_types": kinds,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").touch()
    return folder
