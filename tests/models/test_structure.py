"""Kinds of blocks: equal only where everything that a forward pass can read is equal."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from types import SimpleNamespace

import torch
from model_families import make_config
from torch import nn
from transformers import PreTrainedModel

from maxbuild.models.architecture import build_model
from maxbuild.models.observe import observe_blocks
from maxbuild.models.outline import outline
from maxbuild.models.structure import WatchedIndex, describe_structure


def llama() -> PreTrainedModel:
    """Return a tiny Llama without data."""
    return build_model(make_config("llama"), torch.float32, 512, trust_remote_code=False)


def kinds(model: PreTrainedModel) -> list[str]:
    """Return the region kind of each layer."""
    return [step.region for step in outline(model, 512, use_subgraphs=True).program.steps[1:-1]]


def test_equal_layers_share_a_kind() -> None:
    """Layers that differ in their number alone are one kind."""
    assert len(set(kinds(llama()))) == 1


def test_a_number_in_an_attribute_makes_a_kind() -> None:
    """An attribute deep inside a layer, invisible in shapes and class names, sets the layer apart."""
    model = llama()
    model.model.layers[2].self_attn.scaling = 0.5
    assert kinds(model) == ["decoder.full.1", "decoder.full.1", "decoder.full.2", "decoder.full.1"]


def test_a_shape_makes_a_kind() -> None:
    """A wider layer is a kind of its own."""
    model = llama()
    with torch.device("meta"):
        model.model.layers[1].mlp.gate_proj = nn.Linear(64, 96, bias=False)
        model.model.layers[1].mlp.up_proj = nn.Linear(64, 96, bias=False)
        model.model.layers[1].mlp.down_proj = nn.Linear(96, 64, bias=False)
    assert len(set(kinds(model))) == 2


def test_an_object_of_its_own_makes_a_kind() -> None:
    """What cannot be compared counts as different: sharing is never a guess."""
    model = llama()
    model.model.layers[3].extra = SimpleNamespace(value=1)
    assert kinds(model) == ["decoder.full.1", "decoder.full.1", "decoder.full.1", "decoder.full.2"]


def test_a_layer_that_reads_its_number_is_no_ones_equal() -> None:
    """Code that looks at the layer's number makes every layer its own kind."""

    class Scaled(nn.Module):
        def __init__(self, inner: nn.Module, layer_idx: int) -> None:
            super().__init__()
            self.inner = inner
            self.layer_idx = layer_idx

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            scaled: torch.Tensor = self.inner(hidden) * (self.layer_idx + 1)
            return scaled

    model = llama()
    for number, layer in enumerate(model.model.layers):
        layer.mlp = Scaled(layer.mlp, number)
    assert len(set(kinds(model))) == 4


def test_layer_numbers_are_not_looked_at_by_plain_layers() -> None:
    """The watch itself works: nothing in a plain layer's forward pass reads its number."""
    assert not any(index.seen for call in observe_blocks(llama()) for index in call.watched)


def test_a_watched_index_notices_every_use() -> None:
    """Indexing, comparing, arithmetic and printing all count as looking."""
    uses = (lambda i: [1, 2, 3][i], lambda i: i == 1, lambda i: i + 1, str, lambda i: i % 2, lambda i: {i: 0}, range)
    for use in uses:
        index = WatchedIndex(1)
        assert not index.seen
        use(index)
        assert index.seen


def test_functions_are_told_apart_by_their_code() -> None:
    """Functions of one name differ where their code or their defaults do; the very same function is equal."""

    def choose(*, double: bool) -> Callable[[int], int]:
        return (lambda x: x * 2) if double else (lambda x: x)

    def scale(by: int) -> Callable[[int], int]:
        return lambda x, s=by: x * s

    def structure(function: Callable[[int], int]) -> Hashable:
        block = nn.Module()
        block.activation = function
        return describe_structure(block)

    assert structure(choose(double=True)) != structure(choose(double=False))
    assert structure(scale(1)) != structure(scale(2))
    assert structure(choose(double=True)) == structure(choose(double=True))


def test_a_weight_tied_inside_a_block_makes_a_kind() -> None:
    """Two blocks of equal shapes differ where one uses one tensor twice."""

    def block(*, tied: bool) -> nn.Module:
        made = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        if tied:
            made[1].weight = made[0].weight
        return made

    assert describe_structure(block(tied=True)) != describe_structure(block(tied=False))
