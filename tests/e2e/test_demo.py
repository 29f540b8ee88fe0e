"""The demo, end to end, by the real command: build, nothing to do, one edit, run, verify."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from spaces import MODELS, Space, states, write_demo_manifest
from transformers import AutoModelForCausalLM, AutoTokenizer

from maxbuild.runtime import load_package

pytestmark = pytest.mark.slow

PROMPTS = ("one two three four", "2 4 6 8", "3 + 4 =", "the small cat")


def test_a_second_warm_does_nothing_and_imports_no_torch(demo_package: Path, space: Space) -> None:
    """With everything cached nothing runs, stdout is the package's path, and torch is never imported."""
    manifest = write_demo_manifest(space.folder)
    assert space.maxbuild("warm", manifest).returncode == 0
    script = (
        "import sys; from maxbuild.cli import main; code = main(); "
        "heavy = {'torch', 'transformers', 'triton', 'rich', 'huggingface_hub'} & set(sys.modules); "
        "print(sorted(heavy), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "warm", str(manifest)],
        cwd=space.folder,
        env={**os.environ, "MAXBUILD_STORE": str(space.store)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert re.fullmatch(r"packages/demo/cpu-x86-64-v\d\n", done.stdout)
    assert "nothing to do" in done.stderr
    assert done.stderr.rstrip().endswith("[]")


def test_main_and_draft_share_the_compiles_of_equal_regions(demo_package: Path, space: Space) -> None:
    """Both models have layers of the same shape: each region's key is the same for both, so it is compiled once."""
    tasks = json.loads(space.maxbuild("plan", write_demo_manifest(space.folder), "--json").stdout)["tasks"]
    for kind in ("compile", "build"):
        keys = [task["key"] for task in tasks if task["kind"] == kind and "samplers/" not in task["name"]]
        assert len(keys) == 8
        assert len(set(keys)) == 4


def test_a_serving_option_packages_again_and_nothing_else(demo_package: Path, space: Space) -> None:
    """`served_model_name` enters the package's document alone, and `why` says so."""
    manifest = write_demo_manifest(space.folder, "main.served_model_name=tiny")
    told = space.maxbuild("why", manifest, "package").stdout
    assert "served_model_name" in told
    assert "tiny" in told
    built = {name for name, state in states(space.maxbuild("warm", manifest, "--json")).items() if state == "built"}
    assert {name.split(" ")[0] for name in built} == {"package"}


def test_max_length_traces_again_and_compiles_nothing(demo_package: Path, space: Space) -> None:
    """Another `max_length` gives the same regions to the byte, so compiles stop at the early cutoff."""
    manifest = write_demo_manifest(space.folder, "main.max_length=256")
    built = {name for name, state in states(space.maxbuild("warm", manifest, "--json")).items() if state == "built"}
    assert {name.split(" @")[0] for name in built} == {"trace main", "package"}


def test_one_roles_encoding_leaves_the_other_role_alone(demo_package: Path, space: Space) -> None:
    """What `main` is asked for touches nothing of `draft`."""
    manifest = write_demo_manifest(space.folder, "main.quantization_encoding=bfloat16")
    planned = states(space.maxbuild("plan", manifest, "--json"))
    assert {name for name, state in planned.items() if state == "would_run"} == {"trace main", "load main"}


def test_a_fine_tune_compiles_nothing(demo_package: Path, space: Space) -> None:
    """Other weights under the same config rerun `load` and `package` alone."""
    models = space.folder / "models"
    shutil.copytree(MODELS, models)
    from safetensors.torch import load_file, save_file

    weights = models / "tiny-gemma3" / "model.safetensors"
    tensors = load_file(weights)
    save_file({name: tensor * 1.01 for name, tensor in tensors.items()}, weights, metadata={"format": "pt"})
    manifest = write_demo_manifest(space.folder, models=models)
    built = {name for name, state in states(space.maxbuild("warm", manifest, "--json")).items() if state == "built"}
    assert {name.split(" @")[0] for name in built} == {"load main", "package"}


@pytest.fixture(scope="module")
def eager() -> Any:
    """Return transformers' own model of the demo's main component, in float32."""
    return AutoModelForCausalLM.from_pretrained(MODELS / "tiny-gemma3", dtype=torch.float32).eval()


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_text_is_that_of_generate_with_and_without_draft(demo_package: Path, eager: Any, prompt: str) -> None:
    """Greedy tokens equal transformers' `generate(do_sample=False)`, one for one, whoever proposes them."""
    tokenizer = AutoTokenizer.from_pretrained(MODELS / "tiny-gemma3")
    inputs = tokenizer(prompt, return_tensors="pt")
    expected = eager.generate(**inputs, do_sample=False, max_new_tokens=48)[0, inputs["input_ids"].shape[1] :].tolist()
    package = load_package(demo_package)
    text = package.text
    assert text.encode(prompt) == inputs["input_ids"][0].tolist()
    stop = text.stop_tokens
    expected = [token for token in expected if token not in stop]
    for use_draft in (False, True):
        generation = package.generate(text.encode(prompt), 48, stop_tokens=stop, use_draft=use_draft)
        assert list(generation.tokens) == expected
        assert (generation.statistics.acceptance_rate is not None) == use_draft


def test_a_seed_gives_one_text_with_and_without_draft(demo_package: Path) -> None:
    """Sampled tokens come from one random stream that the draft does not touch."""
    from maxbuild.runtime.generate import Sampling

    package = load_package(demo_package)
    prompt = package.text.encode("the small")

    def sample(seed: int, *, use_draft: bool) -> list[int]:
        sampling = Sampling(temperature=1.0, top_k=50, top_p=0.95, seed=seed)
        return list(package.generate(prompt, 24, sampling=sampling, use_draft=use_draft).tokens)

    assert sample(1, use_draft=True) == sample(1, use_draft=False)
    assert len({tuple(sample(seed, use_draft=True)) for seed in range(5)}) > 1


def test_the_draft_is_right_often_enough_to_pay(demo_package: Path) -> None:
    """Over the demo's prompts more than half of the proposals are accepted."""
    package = load_package(demo_package)
    proposed = accepted = 0
    for prompt in ("one two three", "count from 3 to 9", "10 20 30", "the big dog sees", "5 + 2 ="):
        generation = package.generate(package.text.encode(prompt), 40)
        list(generation.tokens)
        proposed, accepted = proposed + generation.statistics.proposed, accepted + generation.statistics.accepted
    assert accepted > proposed / 2


def test_generation_stops_at_the_longest_row(demo_package: Path) -> None:
    """A text fills the model's longest row exactly, with and without draft."""
    package = load_package(demo_package)
    prompt = package.text.encode("one two three four")
    for use_draft in (False, True):
        tokens = list(package.generate(prompt, 10_000, use_draft=use_draft).tokens)
        assert len(prompt) + len(tokens) == 512


def test_run_streams_text_and_tells_speed(demo_package: Path, space: Space) -> None:
    """The text goes to stdout; tokens per second and the acceptance rate to stderr."""
    done = space.maxbuild("run", demo_package, "--prompt", "one two three four", "--max-new-tokens", "12")
    assert done.returncode == 0, done.stderr
    assert "five six seven" in done.stdout
    assert re.search(r"\d+ tokens, [\d.]+ tokens/s, \d+% of the draft's tokens accepted", done.stderr)


def test_run_answers_in_the_chat_format(demo_package: Path, space: Space) -> None:
    """`--chat` puts the prompt into the model's own template."""
    done = space.maxbuild("run", demo_package, "--chat", "--prompt", "what is 3 + 4 ?", "--no-draft")
    assert "7" in done.stdout
    assert "accepted" not in done.stderr


def test_verify_compares_every_region_and_the_logits(demo_package: Path, space: Space) -> None:
    """Each region of each component and its logits are within tolerance of transformers."""
    done = space.maxbuild("verify", demo_package, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    compared = {(row["component"], row["what"]) for row in json.loads(done.stdout)["comparisons"]}
    assert {("main", "logits"), ("draft", "logits"), ("main", "decoder.sliding"), ("main", "decoder.full")} <= compared


def test_loading_a_package_imports_nothing_of_the_build_side(demo_package: Path, space: Space) -> None:
    """A serving host needs neither typer nor networkx nor transformers."""
    script = (
        "import sys, pathlib; from maxbuild.runtime import load_package; p = load_package(pathlib.Path(sys.argv[1]));"
        "print(list(p.generate(p.text.encode('one two'), 4).tokens));"
        "banned = {'typer', 'networkx', 'transformers', 'diskcache', 'yaml', 'pydantic', 'rich', 'huggingface_hub'};"
        "found = banned & set(sys.modules); assert not found, found;"
        "ours = [m for m in sys.modules if m.startswith('maxbuild.')"
        " and not m.startswith(('maxbuild.runtime', 'maxbuild.errors', 'maxbuild.layout', 'maxbuild.targets'))];"
        "assert not ours, ours"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(demo_package)], capture_output=True, text=True, check=False, cwd=space.folder
    )
    assert done.returncode == 0, done.stderr


def test_one_region_of_the_whole_model_gives_the_same_text(demo_package: Path, space: Space) -> None:
    """`use_subgraphs: false` compiles the draft as one region; nothing that is generated changes."""
    manifest = write_demo_manifest(space.folder, "draft.use_subgraphs=false")
    done = space.maxbuild("warm", manifest)
    assert done.returncode == 0, done.stderr
    package = load_package(space.folder / done.stdout.strip())
    assert list(package.header.components["draft"].regions) == ["model"]
    plain = load_package(demo_package)
    prompt = plain.text.encode("2 4 6 8")
    assert list(package.generate(prompt, 24).tokens) == list(plain.generate(prompt, 24).tokens)
