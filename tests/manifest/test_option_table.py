"""The option table: whole, in agreement with the models, and never a way to be ignored."""

from __future__ import annotations

from pathlib import Path

import pytest

from maxbuild.errors import ManifestError
from maxbuild.manifest import Encoding, Manifest, ModelConfig, SpeculativeConfig, load_manifest
from maxbuild.manifest.options import (
    COMMAND_LINE,
    EFFECTIVE_ROLES,
    KNOWN_ROLES,
    OPTIONS,
    ROLE,
    SECTIONS,
    SPECULATIVE,
    TOP,
    Option,
    find_anywhere,
    get_option,
    options_at,
)

# Every option of `max warm-cache`, in its own spelling; `--no-` and `--draft-` forms are told apart by rule.
ANCESTOR = [
    "ce-delay-ms",
    "chat-template",
    "config-file",
    "custom-architectures",
    "data-parallel-degree",
    "debug-verify-replay",
    "decode-stall-timeout-s",
    "defer-resolve",
    "device-graph-capture",
    "device-memory-utilization",
    "devices",
    "enable-chunked-prefill",
    "enable-echo",
    "enable-in-flight-batching",
    "enable-lora",
    "enable-min-tokens",
    "enable-overlap-scheduler",
    "enable-penalties",
    "enable-prefix-caching",
    "enable-prioritize-first-decode",
    "enable-structured-output",
    "enable-variable-logits",
    "ep-size",
    "ep-use-allreduce",
    "execute-empty-batches",
    "first-block-caching",
    "force",
    "force-download",
    "gpu-profiling",
    "huggingface-model-revision",
    "huggingface-weight-revision",
    "kv-cache-format",
    "kv-cache-page-size",
    "kv-connector",
    "kv-connector-config",
    "kvcache-ce-watermark",
    "lora-paths",
    "max-batch-input-tokens",
    "max-batch-size",
    "max-batch-total-tokens",
    "max-length",
    "max-lora-rank",
    "max-num-loras",
    "max-num-steps",
    "max-queue-size-tg",
    "max-vision-cache-entries",
    "min-batch-size-tg",
    "model-path",
    "models",
    "num-speculative-tokens",
    "pipeline-role",
    "pool-embeddings",
    "prefer-module-v3",
    "quantization-encoding",
    "reasoning-parser",
    "rejection-sampling-strategy",
    "relaxed-delta",
    "relaxed-topk",
    "rope-type",
    "section-name",
    "served-model-name",
    "speculative-method",
    "subfolder",
    "synthetic-acceptance-rate",
    "taylorseer",
    "taylorseer-cache-interval",
    "taylorseer-max-order",
    "taylorseer-warmup-steps",
    "teacache",
    "teacache-coefficients",
    "teacache-rel-l1-thresh",
    "trust-remote-code",
    "use-experimental-kernels",
    "use-relaxed-acceptance-for-thinking",
    "use-subgraphs",
    "use-vendor-blas",
    "use-vendor-ccl",
    "vision-config-overrides",
    "weight-path",
    "zmq-endpoint-base",
]

REFUSED = [option for option in OPTIONS if not option.effective and option.place != COMMAND_LINE]


def effective(place: str) -> set[str]:
    """Return the names of the options at `place` that do something."""
    return {option.name for option in options_at(place) if option.effective}


def messages_of(folder: Path, *, top: str = "", main: str = "") -> list[str]:
    """Return what is wrong with a manifest that has `top` at its top and `main` among the fields of a model."""
    path = folder / "manifest.yaml"
    text = f"version: 1\nname: demo\ntargets: [cpu:x86-64-v2]\nmodels:\n  main:\n    model_path: a/b\n{main}{top}"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ManifestError) as caught:
        load_manifest(path)
    return [problem.message for problem in caught.value.problems]


@pytest.mark.parametrize("name", ANCESTOR)
def test_option_of_the_ancestor_is_known(name: str) -> None:
    """Each has its row, by the same name."""
    assert find_anywhere(name.replace("-", "_")) is not None


def test_names_are_unique_and_places_are_known() -> None:
    """One name means one option, and stands at one place."""
    assert len({option.name for option in OPTIONS}) == len(OPTIONS)
    assert {option.place for option in OPTIONS} == {TOP, ROLE, COMMAND_LINE, *SECTIONS}


def test_help_is_one_line_that_ends() -> None:
    """Every option says in one sentence what it is."""
    for option in OPTIONS:
        assert option.help.endswith((".", "…")) or option.help[-1].isdigit(), option.name
        assert "\n" not in option.help
        assert len(option.help) <= 120, option.name


def test_refused_option_has_a_reason_and_an_effective_one_none() -> None:
    """The state and its reason go together."""
    assert all(bool(option.reason) is not option.effective for option in OPTIONS)


def test_effective_options_are_the_fields_of_the_models() -> None:
    """What the table calls effective, a model holds, and nothing else."""
    assert effective(ROLE) == set(ModelConfig.model_fields)
    assert effective(SPECULATIVE) == set(SpeculativeConfig.model_fields)
    assert effective(TOP) | {SPECULATIVE, "path", "origins"} == set(Manifest.model_fields)


def test_choices_are_the_values_of_the_models() -> None:
    """The encodings of the table are those that a manifest can hold."""
    assert get_option(ROLE, "quantization_encoding").choices == tuple(Encoding)


def test_buildable_roles_are_known_roles() -> None:
    """The vocabulary holds what can be built."""
    assert set(EFFECTIVE_ROLES) <= set(KNOWN_ROLES)


@pytest.mark.parametrize("option", REFUSED, ids=lambda option: option.name)
def test_refused_option_in_its_place_is_refused_by_name(option: Option, tmp_path: Path) -> None:
    """Known and without effect means refused, never accepted and ignored."""
    if option.place == ROLE:
        messages = messages_of(tmp_path, main=f"    {option.name}: 1\n")
    else:
        messages = messages_of(
            tmp_path, top=f"{option.place}:\n  {option.name}: 1\n" if option.place else f"{option.name}: 1\n"
        )
    needed = ["a `speculative` section needs a role `draft` in `models`"] if option.place == SPECULATIVE else []
    refused = [message for message in messages if message not in needed and "is missing" not in message]
    assert refused == [f"option `{option.name}` is not supported yet"]


@pytest.mark.parametrize(
    "option", [option for option in OPTIONS if option.place != TOP], ids=lambda option: option.name
)
def test_option_in_the_wrong_place_is_told_where_it_belongs(option: Option, tmp_path: Path) -> None:
    """An option at the top that belongs elsewhere is sent there."""
    (message,) = messages_of(tmp_path, top=f"{option.name}: 1\n")
    where = "on the command line" if option.place == COMMAND_LINE else f"under {option.place}"
    assert message.startswith(f"`{option.name}` belongs {where}")


@pytest.mark.parametrize("name", sorted(name for name in effective(ROLE) if "_" in name))
def test_dashes_of_the_ancestor_get_the_right_spelling(name: str, tmp_path: Path) -> None:
    """`max-length` under a model leads to `max_length`."""
    dashed = name.replace("_", "-")
    path = tmp_path / "manifest.yaml"
    path.write_text(
        f"version: 1\nname: demo\ntargets: [cpu:x86-64-v2]\nmodels: {{main: {{model_path: a/b, {dashed}: 1}}}}\n",
        encoding="utf-8",
    )
    with pytest.raises(ManifestError) as caught:
        load_manifest(path)
    (problem,) = caught.value.problems
    assert (problem.message, problem.hint) == (f"unknown key `{dashed}`", f"did you mean `{name}`?")
