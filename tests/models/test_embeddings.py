"""Embedding models: what they are told by, how they are pooled, and that packing leaves their output embedding out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from model_families import bind, make_config, make_eager_model
from torch import Tensor
from transformers import AutoConfig, AutoModel, PreTrainedModel

from maxbuild.errors import UnsupportedModel, UsageError
from maxbuild.models.architecture import build_model, embeds
from maxbuild.models.outline import outline
from maxbuild.models.pooling import UNTOLD, pool, read_pooling
from maxbuild.runtime.model import Model
from maxbuild.runtime.program import Pooling, PoolingMode, Program, Results
from maxbuild.runtime.scoring import embed

TOLERANCE = 1e-5
ROWS = [list(range(3, 15)), [7, 7, 9, 200, 1], [42]]


@pytest.fixture(scope="module")
def eager() -> PreTrainedModel:
    """Return the model that transformers runs, without an output embedding."""
    torch.manual_seed(0)
    config = make_config("qwen3", num_hidden_layers=1)
    return AutoModel.from_config(config, attn_implementation="eager").eval()


def embedding_model(eager: PreTrainedModel, pooling: Pooling | None, *, use_subgraphs: bool = True) -> Model:
    """Outline the model with this pooling and bind it, uncompiled."""
    config = make_config("qwen3", num_hidden_layers=1)
    model = build_model(config, torch.float32, 64, trust_remote_code=False, embedding=True)
    outlined = outline(model, 64, use_subgraphs=use_subgraphs, results=Results.EMBEDDING, pooling=pooling)
    assert Program.from_json(outlined.program.to_json()) == outlined.program
    return bind(outlined, eager)


@torch.inference_mode()
def hidden_states(eager: PreTrainedModel) -> list[Tensor]:
    """Return what eager says of each token, each row by itself."""
    return [eager(input_ids=torch.tensor([row])).last_hidden_state[0] for row in ROWS]


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("mode", PoolingMode)
def test_pooled_rows_are_those_of_eager(eager: PreTrainedModel, mode: PoolingMode, normalized: bool) -> None:
    """Rows of different length in one batch give what each gives alone: padding enters no vector."""
    picks = {
        PoolingMode.FIRST: lambda h: h[0],
        PoolingMode.LAST: lambda h: h[-1],
        PoolingMode.MEAN: lambda h: h.mean(0),
    }
    expected = torch.stack([picks[mode](hidden) for hidden in hidden_states(eager)])
    if normalized:
        expected = expected / expected.norm(dim=1, keepdim=True)
    got = torch.stack(embed(embedding_model(eager, Pooling(mode, normalized)), ROWS))
    torch.testing.assert_close(got, expected, atol=TOLERANCE, rtol=0)


def test_one_region_of_the_whole_model_pools_too(eager: PreTrainedModel) -> None:
    """`use_subgraphs: false` gives the same vectors."""
    pooling = Pooling(PoolingMode.MEAN, normalized=True)
    whole = embedding_model(eager, pooling, use_subgraphs=False)
    assert whole.program.regions == ("model",)
    torch.testing.assert_close(
        torch.stack(embed(whole, ROWS)), torch.stack(embed(embedding_model(eager, pooling), ROWS))
    )


def test_without_pooling_every_token_has_a_vector(eager: PreTrainedModel) -> None:
    """`pool_embeddings: false`: as many vectors as the row has tokens, none of padding."""
    got = embed(embedding_model(eager, None), ROWS)
    assert [len(vectors) for vectors in got] == [len(row) for row in ROWS]
    for vectors, expected in zip(got, hidden_states(eager), strict=True):
        torch.testing.assert_close(vectors, expected, atol=TOLERANCE, rtol=0)


def test_padding_may_be_anything() -> None:
    """What a model says of padding, even what is no number, changes no mean."""
    hidden = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [float("nan"), float("inf")]]])
    pooled = pool(hidden, torch.arange(3)[None], torch.tensor([2]), Pooling(PoolingMode.MEAN, normalized=False))
    assert pooled.tolist() == [[2.0, 3.0]]


def test_an_embedding_model_has_no_logits_and_a_language_model_no_embeddings(eager: PreTrainedModel) -> None:
    """Each is refused by name where the other is wanted."""
    model = embedding_model(eager, UNTOLD)
    ids, one = torch.tensor([[1, 2]]), torch.tensor([[0]])
    with pytest.raises(UsageError, match="embedding model"):
        model.forward(ids, model.numbers[None, :2], one, model.caches(1), 2)
    language_model = build_model(make_config("qwen3", num_hidden_layers=1), torch.float32, 64, trust_remote_code=False)
    text = bind(
        outline(language_model, 64, use_subgraphs=True), make_eager_model(make_config("qwen3", num_hidden_layers=1))
    )
    with pytest.raises(UsageError, match="not embeddings"):
        embed(text, ROWS)
    with pytest.raises(UsageError, match="longest row 64"):
        embed(model, [[1] * 65])


@pytest.mark.parametrize(
    ("architectures", "pools", "expected"),
    [
        (["Qwen3Model"], False, True),
        (["Qwen3ForCausalLM"], False, False),
        (["Qwen3ForCausalLM"], True, True),
        (None, False, False),
    ],
)
def test_an_embedding_model_is_told_by_its_class_or_by_its_pooling(
    architectures: list[str] | None, pools: bool, expected: bool
) -> None:
    """config.json names the class without an output embedding, or sentence-transformers' files are there."""
    assert embeds(make_config("qwen3", architectures=architectures), pools=pools) is expected


def write_modules(folder: Path, kinds: list[str], config: Mapping[str, Any] | None) -> Mapping[str, Path]:
    """Write sentence-transformers' files into `folder` and return them by name."""
    modules = [{"type": f"sentence_transformers.models.{kind}", "path": f"{i}_{kind}"} for i, kind in enumerate(kinds)]
    (folder / "modules.json").write_text(json.dumps(modules))
    files = {"modules.json": folder / "modules.json"}
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
        files["1_Pooling/config.json"] = folder / "config.json"
    return files


@pytest.mark.parametrize(
    ("kinds", "config", "expected"),
    [
        (["Transformer", "Pooling"], {"pooling_mode_mean_tokens": True}, Pooling(PoolingMode.MEAN, normalized=False)),
        (
            ["Transformer", "Pooling", "Normalize"],
            {"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False},
            Pooling(PoolingMode.LAST, normalized=True),
        ),
        (["Transformer", "Pooling"], {"pooling_mode": "cls"}, Pooling(PoolingMode.FIRST, normalized=False)),
    ],
)
def test_pooling_is_read_from_the_models_files(
    tmp_path: Path, kinds: list[str], config: Mapping[str, Any], expected: Pooling
) -> None:
    """The mode by flag or by name, and whether a normalisation follows."""
    assert read_pooling(write_modules(tmp_path, kinds, config)) == expected


def test_a_model_that_does_not_say_is_pooled_by_the_mean() -> None:
    """As sentence-transformers does with a model that has none of its files."""
    assert read_pooling({}) == Pooling(PoolingMode.MEAN, normalized=False)


@pytest.mark.parametrize(
    ("kinds", "config", "reason"),
    [
        (["Transformer", "Pooling", "Dense", "Normalize"], {"pooling_mode": "mean"}, "`Dense`"),
        (["Transformer", "Normalize", "Pooling"], {"pooling_mode": "mean"}, "Transformer, Normalize, Pooling"),
        (["Transformer", "Pooling"], {"pooling_mode_max_tokens": True}, "max"),
        (
            ["Transformer", "Pooling"],
            {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
            "cls and mean",
        ),
        (["Transformer", "Pooling"], {}, "nothing"),
        (["Transformer", "Pooling"], None, "1_Pooling/config.json"),
    ],
)
def test_other_poolings_are_refused_by_name(
    tmp_path: Path, kinds: list[str], config: Mapping[str, Any] | None, reason: str
) -> None:
    """A layer after the pooling, another order, another mode, two modes, and a file that is missing."""
    with pytest.raises(UnsupportedModel, match=reason):
        read_pooling(write_modules(tmp_path, kinds, config))


def test_encoders_are_refused_with_the_reason() -> None:
    """Attention in both directions is no rule of ours, so an encoder is never built as if it looked back alone."""
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = AutoConfig.for_model("bert", **sizes, vocab_size=256)
    with pytest.raises(UnsupportedModel, match="bidirectional"):
        outline(
            build_model(config, torch.float32, 64, trust_remote_code=False, embedding=True),
            64,
            use_subgraphs=True,
            results=Results.EMBEDDING,
            pooling=UNTOLD,
        )
