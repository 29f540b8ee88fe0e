"""What a program ends with: chosen logits, a ragged choice of them, all of them; and what is asked of the wrong one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from model_families import bind, make_config, make_eager_model, worst_error
from torch import Tensor
from transformers import PreTrainedModel

from maxbuild.errors import UnsupportedModel, UsageError
from maxbuild.models.architecture import build_model
from maxbuild.models.ending import choose_ending
from maxbuild.models.outline import Outline, outline
from maxbuild.runtime import scoring
from maxbuild.runtime.model import Model
from maxbuild.runtime.program import Program, Results

TOLERANCE = 1e-4
LENGTHS = (12, 7, 3)

# Capped logits: what a model does after its output embedding is part of what must fit each form.
FAMILY: Mapping[str, Any] = {"family": "gemma2", "num_hidden_layers": 2}


def trace(results: Results, *, use_subgraphs: bool = True) -> Outline:
    """Outline the family's model with a program that ends so."""
    model = build_model(make_config(**FAMILY), torch.float32, 64, trust_remote_code=False)
    return outline(model, 64, use_subgraphs=use_subgraphs, results=results)


@pytest.fixture(scope="module")
def eager() -> PreTrainedModel:
    """Return the model that transformers runs."""
    return make_eager_model(make_config(**FAMILY))


@pytest.fixture(scope="module")
def traced() -> Mapping[Results, Outline]:
    """Return the outline of each form."""
    return {results: trace(results) for results in (Results.CHOSEN, Results.RAGGED, Results.EVERY)}


@pytest.fixture(scope="module")
def models(traced: Mapping[Results, Outline], eager: PreTrainedModel) -> Mapping[Results, Model]:
    """Return runnable models of each form, regions uncompiled."""
    return {results: bind(outlined, eager) for results, outlined in traced.items()}


@torch.inference_mode()
def expected_logits(eager: PreTrainedModel, tokens: Tensor) -> list[Tensor]:
    """Return eager's logits of every token, one row after the other."""
    return [eager(tokens[row : row + 1, :length]).logits[0] for row, length in enumerate(LENGTHS)]


def some_tokens() -> Tensor:
    """Return three rows of tokens; those beyond `LENGTHS` are padding."""
    return torch.randint(0, 256, (len(LENGTHS), max(LENGTHS)), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("results", [Results.RAGGED, Results.EVERY])
def test_every_form_decodes_as_eager_does(
    models: Mapping[Results, Model], eager: PreTrainedModel, results: Results
) -> None:
    """`forward` gives the same logits whatever the program ends with: nothing that generates has to know."""
    assert worst_error(models[results], eager, [20, 13, 7]) < TOLERANCE


@pytest.mark.parametrize("results", [Results.RAGGED, Results.EVERY])
def test_one_region_of_the_whole_model_ends_alike(eager: PreTrainedModel, results: Results) -> None:
    """`use_subgraphs: false` has the same forms."""
    outlined = trace(results, use_subgraphs=False)
    assert list(outlined.regions) == ["model"]
    assert worst_error(bind(outlined, eager), eager, [20, 13, 7]) < TOLERANCE


@pytest.mark.parametrize("results", [Results.RAGGED, Results.EVERY])
def test_rows_have_different_numbers_of_logits(
    models: Mapping[Results, Model], eager: PreTrainedModel, results: Results
) -> None:
    """One run gives three logits of one row, one of another and none of the third, in the order asked for."""
    tokens = some_tokens()
    rows, places = torch.tensor([2, 0, 0, 0]), torch.tensor([1, 11, 0, 5])
    model = models[results]
    positions = model.numbers[: max(LENGTHS)].expand(len(LENGTHS), -1)
    got = model.forward_ragged(tokens, positions, rows, places, model.caches(3, 64), max(LENGTHS))
    expected = expected_logits(eager, tokens)
    wanted = torch.stack([expected[row][place] for row, place in zip(rows.tolist(), places.tolist(), strict=True)])
    assert got.shape == (4, 256)
    torch.testing.assert_close(got, wanted, atol=TOLERANCE, rtol=0)


def test_every_token_has_its_logits(models: Mapping[Results, Model], eager: PreTrainedModel) -> None:
    """`enable_echo`: one run of a prompt gives the logits of all its tokens, the first as well as the last."""
    tokens, model = some_tokens(), models[Results.EVERY]
    positions = model.numbers[: max(LENGTHS)].expand(len(LENGTHS), -1)
    got = model.forward_every(tokens, positions, model.caches(3, 64), max(LENGTHS))
    for row, expected in enumerate(expected_logits(eager, tokens)):
        torch.testing.assert_close(got[row, : LENGTHS[row]], expected, atol=TOLERANCE, rtol=0)


def test_the_form_changes_the_last_region_alone(traced: Mapping[Results, Outline]) -> None:
    """Layers are compiled once for all three forms; what follows them differs in inputs and operators."""
    for name in ("before", "decoder.sliding", "decoder.full"):
        assert traced[Results.CHOSEN].regions[name] == traced[Results.RAGGED].regions[name]
        assert traced[Results.CHOSEN].regions[name] == traced[Results.EVERY].regions[name]
    inputs = {
        results: [spec.shape for spec in outlined.regions["after"].inputs if spec.dtype == "int64"]
        for results, outlined in traced.items()
    }
    assert inputs == {
        Results.CHOSEN: [("batch", "logits")],
        Results.RAGGED: [("logits",), ("logits",)],
        Results.EVERY: [],
    }
    last = {results: outlined.program.steps[-1].values for results, outlined in traced.items()}
    assert "logit_rows" in last[Results.RAGGED]
    assert not [name for name in last[Results.EVERY] if name.startswith("logit")]


def test_programs_of_all_forms_survive_their_json_form(traced: Mapping[Results, Outline]) -> None:
    """What a program ends with is in its document."""
    for results, outlined in traced.items():
        assert outlined.program.to_json()["results"] == results.value
        assert Program.from_json(outlined.program.to_json()) == outlined.program


def test_what_a_package_was_not_built_for_is_refused_with_the_option(models: Mapping[Results, Model]) -> None:
    """A plain package says which option was left out; a ragged one has no logits of every token either."""
    tokens, plain, ragged = some_tokens(), models[Results.CHOSEN], models[Results.RAGGED]
    positions = plain.numbers[: max(LENGTHS)].expand(len(LENGTHS), -1)
    one = torch.tensor([0])
    with pytest.raises(UsageError) as refused:
        plain.forward_ragged(tokens, positions, one, one, plain.caches(3), 12)
    assert "enable_variable_logits" in (refused.value.hint or "")
    for model in (plain, ragged):
        with pytest.raises(UsageError) as refused:
            model.forward_every(tokens, positions, model.caches(3), 12)
        assert "enable_echo" in (refused.value.hint or "")


def test_log_probabilities_are_those_of_eager(
    models: Mapping[Results, Model], eager: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each token's log-probability after those before it, also over several runs of a long text."""
    monkeypatch.setattr(scoring, "_CHUNK", 5)
    tokens = some_tokens()[0]
    with torch.inference_mode():
        logits = eager(tokens[None]).logits[0]
    expected = torch.log_softmax(logits[:-1], dim=-1).gather(1, tokens[1:, None])[:, 0]
    got = scoring.log_probabilities(models[Results.EVERY], tokens.tolist())
    torch.testing.assert_close(torch.tensor(got), expected, atol=TOLERANCE, rtol=0)
    assert scoring.log_probabilities(models[Results.EVERY], [5]) == []


@pytest.mark.parametrize("tokens", [[], [1] * 65])
def test_a_text_that_no_row_can_hold_is_refused(models: Mapping[Results, Model], tokens: list[int]) -> None:
    """No text at all, and one token more than the longest row."""
    with pytest.raises(UsageError, match="tokens"):
        scoring.log_probabilities(models[Results.EVERY], tokens)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, Results.CHOSEN),
        ({"sampling": {"enable_variable_logits": True}}, Results.RAGGED),
        ({"enable_echo": True}, Results.EVERY),
        # With the logits of every token at hand, a row can have any number of them.
        ({"enable_echo": True, "sampling": {"enable_variable_logits": True}}, Results.EVERY),
    ],
)
def test_options_choose_the_form(options: Mapping[str, Any], expected: Results) -> None:
    """Each option has a form of its own."""
    assert choose_ending(options, {}, embedding=False) == (expected, None)


@pytest.mark.parametrize(
    ("options", "embedding", "named"),
    [
        ({"enable_echo": True}, True, "enable_echo"),
        ({"sampling": {"enable_variable_logits": True}}, True, "enable_variable_logits"),
        ({"pool_embeddings": True}, False, "pool_embeddings"),
        ({"pool_embeddings": False}, False, "pool_embeddings"),
    ],
)
def test_options_with_nothing_to_act_on_are_refused(options: Mapping[str, Any], embedding: bool, named: str) -> None:
    """Logits are not asked of an embedding model, nor pooling of a language model."""
    with pytest.raises(UnsupportedModel, match=named):
        choose_ending(options, {}, embedding=embedding)
