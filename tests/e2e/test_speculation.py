"""Speculation end to end, by the real command: what a strategy rebuilds, what texts it makes, what is refused."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from chi_squared import surprise
from plain_samplers import plain_samplers
from spaces import MODELS, Space, states, write_demo_manifest

from maxbuild.models.samplers import Acceptance
from maxbuild.runtime import LoadedPackage, load_package
from maxbuild.runtime.samplers import ACCEPT, ACCEPT_GREEDY, SAMPLE, TRUNCATE, Strategy
from maxbuild.runtime.sampling import Samplers, Sampling

pytestmark = pytest.mark.slow

WAY = Sampling(temperature=1.2, top_k=8, top_p=0.95)
TEXTS = 600


def write_manifest(folder: Path, *, models: Path = MODELS, overrides: Sequence[str] = (), **speculative: Any) -> Path:
    """Write the demo's manifest with another way to speculate."""
    path = write_demo_manifest(folder, *overrides, models=models)
    said = {"speculative_method": "standalone", "num_speculative_tokens": 4, **speculative}
    lines = [line for line in path.read_text().splitlines() if not line.startswith("speculative:")]
    path.write_text("\n".join([*lines, f"speculative: {json.dumps(said)}", ""]))
    return path


def would_run(space: Space, manifest: Path) -> set[str]:
    planned = states(space.maxbuild("plan", manifest, "--json"))
    return {name.partition(" @")[0] for name, state in planned.items() if state == "would_run"}


def keys(space: Space, manifest: Path) -> Mapping[str, str]:
    """Return the key of each task of a manifest that is built."""
    planned = json.loads(space.maxbuild("plan", manifest, "--json").stdout)["tasks"]
    return {task["name"]: task["key"] for task in planned}


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Compute on one thread: for models this small others would only be waited for."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def residual(demo_package: Path, shared_store: Path, tmp_path_factory: pytest.TempPathFactory) -> LoadedPackage:
    """Return the demo's package with the default strategy, built where the demo is built already."""
    space = Space(tmp_path_factory.mktemp("residual"), shared_store)
    manifest = write_manifest(space.folder)
    assert space.maxbuild("warm", manifest).returncode == 0
    (folder,) = (space.folder / "packages" / "demo").iterdir()
    return load_package(folder)


def test_another_strategy_leaves_the_models_as_they_are(residual: LoadedPackage, space: Space) -> None:
    """From greedy to the default the samplers are traced again, and of all regions `accept` alone is compiled."""
    greedy, default = (
        keys(space, write_manifest(space.folder, rejection_sampling_strategy=strategy))
        for strategy in ("greedy", "residual")
    )
    assert greedy.keys() == default.keys()
    changed = {name.partition(" @")[0] for name, key in default.items() if greedy[name] != key}
    assert changed == {"samplers", "compile samplers/accept", "build samplers/accept", "package"}


def test_a_strategy_that_was_never_built_runs_the_samplers_alone(demo_package: Path, space: Space) -> None:
    """No task of a model is among what a plan says would run."""
    manifest = write_manifest(space.folder, rejection_sampling_strategy="logit-comparison")
    assert would_run(space, manifest) == {"samplers"}


def test_the_number_of_proposals_is_packaged_anew_and_nothing_else(residual: LoadedPackage, space: Space) -> None:
    """Samplers take any number; so does one role's place in the package."""
    assert would_run(space, write_manifest(space.folder, num_speculative_tokens=7)) == {"package"}


def test_another_draft_leaves_the_main_model_as_it_is(residual: LoadedPackage, space: Space) -> None:
    """A draft of other weights and another shape reruns what is of the draft, and no task of `main` or the samplers."""
    models = Path(shutil.copytree(MODELS, space.folder / "models"))
    config = models / "tiny-gemma3-draft" / "config.json"
    said = json.loads(config.read_text())
    config.write_text(json.dumps({**said, "num_hidden_layers": 1, "layer_types": said["layer_types"][:1]}))
    again = would_run(space, write_manifest(space.folder, models=models))
    assert again == {"match draft", "trace draft", "load draft"}


def test_a_package_says_how_its_samplers_are_called(residual: LoadedPackage) -> None:
    """Header and program name the regions; the strategy is the default of `standalone`."""
    header, samplers = residual.header, residual.samplers
    assert header.speculative is not None
    assert header.samplers is not None
    assert samplers is not None
    assert header.speculative.rejection_sampling_strategy == samplers.program.strategy == Strategy.RESIDUAL
    assert header.samplers.regions.keys() == {SAMPLE, TRUNCATE, ACCEPT, ACCEPT_GREEDY}
    assert set(header.samplers.regions.values()) <= header.files.keys()


def same_numbers(compiled: Samplers, acceptance: Acceptance, name: str, sizes: tuple[int, int, int]) -> bool:
    """Tell whether a compiled sampler says what torch does, on inputs from a fixed seed."""
    batch, logits, vocabulary = sizes
    random = torch.Generator().manual_seed(sum(sizes))

    def uniform(*size: int) -> torch.Tensor:
        return torch.rand(*size, generator=random, dtype=torch.float64)

    values = {
        "logits": torch.randn(batch, vocabulary, generator=random) * 2,
        "target_logits": torch.randn(batch, logits, vocabulary, generator=random) * 2,
        "temperature": torch.tensor([0.0, 0.7, 1.5])[torch.randint(0, 3, (batch,), generator=random)],
        "top_k": torch.randint(0, 9, (batch,), generator=random),
        "top_p": torch.rand(batch, generator=random).clamp(min=0.1),
        "least_logit": torch.full((batch, 1), -1.0),
        "least_logits": torch.full((batch, logits), -math.inf),
        "pick": uniform(batch),
        "picks": uniform(batch, logits),
        "coins": uniform(batch, logits),
        "proposed": torch.randint(0, vocabulary, (batch, logits), generator=random),
        "proposals": torch.randint(0, logits, (batch,), generator=random),
        "draft_probabilities": torch.softmax(torch.randn(batch, logits, vocabulary, generator=random), -1),
    }
    got, expected = compiled(name, values), plain_samplers(acceptance)(name, values)
    return all(torch.allclose(one.double(), other.double()) for one, other in zip(got, expected, strict=True))


@pytest.mark.parametrize("name", [SAMPLE, TRUNCATE, ACCEPT, ACCEPT_GREEDY])
def test_compiled_samplers_compute_what_torch_does(residual: LoadedPackage, demo_package: Path, name: str) -> None:
    """For any batch, number of places and vocabulary, of the residual and of the greedy strategy."""
    greedy = load_package(demo_package, check_digests=False).samplers
    for samplers, strategy in ((residual.samplers, Strategy.RESIDUAL), (greedy, Strategy.GREEDY)):
        assert samplers is not None
        for sizes in ((1, 1, 704), (1, 5, 704), (3, 2, 33), (2, 9, 20_000)):
            assert same_numbers(samplers, Acceptance(strategy), name, sizes)


def chances(package: LoadedPackage, tokens: Sequence[int]) -> torch.Tensor:
    """Return (vocabulary,) by what the main model draws the next token, by the definition."""
    model = package.models["main"]
    text = torch.tensor([tokens])
    places = model.numbers[None, : len(tokens)]
    logits = model.forward(text, places, places[:, -1:], model.caches(1, len(tokens)), len(tokens))[0, 0].double()
    kept = logits.masked_fill(logits < logits.topk(WAY.top_k).values[-1], -math.inf) / WAY.temperature
    ordered, order = kept.softmax(-1).sort(descending=True)
    dropped = order[ordered.cumsum(-1) - ordered >= WAY.top_p]
    return kept.index_fill(0, dropped, -math.inf).softmax(-1)


@pytest.mark.usefixtures("one_thread")
def test_residual_texts_are_distributed_as_the_main_models(residual: LoadedPackage) -> None:
    """Of 600 texts the first two tokens come as often as the main model alone would say them.

    The first token is drawn by itself, the second is a proposal or what is drawn in its place. Power: that the second
    depended on nothing would be found out by more than twelve standard deviations.
    """
    prompt = residual.text.encode("the small cat sees a")
    vocabulary = residual.models["main"].program.vocab_size
    pairs: Counter[tuple[int, int]] = Counter()
    accepted = proposed = 0
    for seed in range(TEXTS):
        generation = residual.generate(prompt, 3, sampling=Sampling(WAY.temperature, WAY.top_k, WAY.top_p, seed))
        first, second, _ = generation.tokens
        pairs[first, second] += 1
        accepted += generation.statistics.acceptance.accepted_at[0]
        proposed += generation.statistics.acceptance.proposed_at[0]
    assert 0.1 < accepted / proposed < 0.99, "proposals are to be taken and refused"
    firsts = chances(residual, prompt)
    cells = torch.zeros(vocabulary, vocabulary, dtype=torch.float64)
    for first in firsts.nonzero()[:, 0].tolist():
        cells[first] = firsts[first] * chances(residual, [*prompt, first])
    counts = torch.zeros_like(cells)
    for (first, second), count in pairs.items():
        counts[first, second] = count
    assert surprise(counts.flatten(), cells.flatten()) < 4.75
    # Where the first and the second token are taken for independent, the same counts do not fit.
    shuffled = firsts[:, None] * cells.sum(0)[None]
    assert surprise(counts.flatten(), shuffled.flatten()) > 12


def test_run_tells_acceptance_by_place(residual: LoadedPackage, space: Space) -> None:
    """On stderr and as JSON, for whatever temperature."""
    arguments = ("run", residual.folder, "-p", "one two three", "--max-new-tokens", "24", "--temperature", "0.8")
    done = space.maxbuild(*arguments)
    assert done.returncode == 0, done.stderr
    assert "of the draft's tokens accepted" in done.stderr
    assert ", by place " in done.stderr
    figures = json.loads(space.maxbuild(*arguments, "--json").stdout)
    assert figures["acceptance_rates"]
    assert all(0 <= rate <= 1 for rate in figures["acceptance_rates"])


def test_a_draft_of_another_tokenizer_fails_before_anything_is_built(empty_space: Space) -> None:
    """The tokens in question are named, and neither model has been traced."""
    models = Path(shutil.copytree(MODELS, empty_space.folder / "models"))
    path = models / "tiny-gemma3-draft" / "tokenizer.json"
    said = json.loads(path.read_text())
    vocabulary = said["model"]["vocab"]
    word = next(text for text, token in vocabulary.items() if token == 500)
    vocabulary[f"{word}ish"] = vocabulary.pop(word)
    path.write_text(json.dumps(said))
    done = empty_space.maxbuild("warm", write_manifest(empty_space.folder, models=models))
    assert done.returncode == 1
    assert "`draft` has another tokenizer than `main`" in done.stderr
    assert f"{json.dumps(word, ensure_ascii=False)} is token 500 of `main`, no token of `draft`" in done.stderr


def test_thinking_without_its_markers_is_refused(empty_space: Space) -> None:
    """The demo's models do not think; that is said with the option to leave out."""
    manifest = write_manifest(empty_space.folder, use_relaxed_acceptance_for_thinking=True)
    done = empty_space.maxbuild("warm", manifest)
    assert done.returncode == 1
    assert "has no token `<think>`" in done.stderr
    assert "leave `use_relaxed_acceptance_for_thinking` out" in done.stderr
