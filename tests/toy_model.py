"""A model of a few numbers, whose regions are plain functions: what the runtime does shows without a compile."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from maxbuild.runtime.model import Model
from maxbuild.runtime.program import CacheSpec, Program, Step

VOCABULARY, _WIDTH = 32, 8

PROGRAM = Program(
    max_length=40,
    vocab_size=VOCABULARY,
    dtype="float32",
    caches=(CacheSpec("seen", 1, _WIDTH, "float32"),),
    steps=(
        Step("before", ("input_ids",), (), ("embedding",), ("hidden",)),
        Step("block", ("hidden", "positions", "key_positions"), ("seen",), ("mixing",), ("mixed",)),
        Step("after", ("mixed", "logit_positions"), (), ("head",), ("logits",)),
    ),
)


def _before(tokens: Tensor, embedding: Tensor) -> Tensor:
    return embedding[tokens]


def _block(hidden: Tensor, positions: Tensor, keys: Tensor, seen: Tensor, mixing: Tensor) -> Tensor:
    """Write what is new into the cache, and give each place the mean of the places up to it."""
    slots = positions[:, None, :, None].expand(-1, 1, -1, _WIDTH)
    seen.scatter_(2, slots, hidden[:, None])
    visible = (keys <= positions[:, :, None]).float()
    mean = visible @ seen[:, 0, : keys.shape[0]] / visible.sum(-1, keepdim=True)
    return hidden + 3 * torch.tanh(mean @ mixing)


def _after(mixed: Tensor, wanted: Tensor, head: Tensor) -> Tensor:
    rows = wanted[:, :, None].expand(-1, -1, _WIDTH)
    return mixed.gather(1, rows) @ head


_REGIONS: dict[str, Callable[..., Tensor]] = {"before": _before, "block": _block, "after": _after}


def toy_model(seed: int, device: torch.device, *, noise: float = 0.0) -> Model:
    """Return the model of `seed` on `device`; with `noise` another one that often thinks the same."""
    random = torch.Generator().manual_seed(seed)
    shapes = {"embedding": (VOCABULARY, _WIDTH), "mixing": (_WIDTH, _WIDTH), "head": (_WIDTH, VOCABULARY)}
    weights = {name: torch.randn(*shape, generator=random) for name, shape in shapes.items()}
    weights["head"] += noise * torch.randn(*shapes["head"], generator=random)
    weights = {name: tensor.to(device) for name, tensor in weights.items()}
    return Model(PROGRAM, {name: _checked(region, device) for name, region in _REGIONS.items()}, weights, device)


def _checked(region: Callable[..., Tensor], device: torch.device) -> Callable[[list[Tensor]], Sequence[Tensor]]:
    """Return the region as the runtime calls it. It refuses inputs that a compiled one could not take as they are."""

    def call(inputs: list[Tensor]) -> Sequence[Tensor]:
        for tensor in inputs:
            assert tensor.device == device, f"an input lies on {tensor.device}"
            assert tensor.is_contiguous()
            assert tensor.storage_offset() * tensor.element_size() % 16 == 0, "an input is not aligned"
        return [region(*inputs)]

    return call
