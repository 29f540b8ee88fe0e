"""Stand-ins for a model's blocks: an opaque operator that marks each one's place in the graph around them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from maxbuild.errors import UnsupportedModel
from maxbuild.models.observe import BlockCall


@torch.library.custom_op("maxbuild::block", mutates_args=())
def _block(index: int, tensors: list[Tensor]) -> Tensor:
    """Stand for block number `index` while the code around the blocks is exported; never run."""
    raise NotImplementedError("maxbuild::block only marks a place in a graph")


@_block.register_fake
def _block_fake(index: int, tensors: list[Tensor]) -> Tensor:  # noqa: ARG001
    return torch.empty_like(tensors[0])


BLOCK = torch.ops.maxbuild.block.default
"""The operator as graphs hold it: `(index of the block, its tensors) -> hidden state`."""


@contextlib.contextmanager
def stubbed(calls: Sequence[BlockCall]) -> Iterator[None]:
    """Replace the blocks' forward methods by the marking operator while the context lasts."""
    for index, call in enumerate(calls):
        call.module.forward = _stub(index, call)
    try:
        yield
    finally:
        for call in calls:
            del call.module.forward


def _stub(index: int, call: BlockCall) -> Callable[..., Any]:
    def forward(*args: Any, **kwargs: Any) -> Any:
        leaves, arguments = pytree.tree_flatten((args, kwargs))
        if arguments != call.arguments:
            raise UnsupportedModel(f"layer `{call.name}` is called in different ways")
        hidden = _block(index, [leaf for leaf in leaves if isinstance(leaf, Tensor)])
        assert call.results is not None
        return pytree.tree_unflatten([hidden, *[None] * (call.results.num_leaves - 1)], call.results)

    return forward
