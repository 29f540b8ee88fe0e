"""Watch one run of a model without data, to learn what its blocks are called with and what they keep in caches.

Invariant: the model runs on the meta device with all its own code; nothing of it is replaced but attention and masks.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from maxbuild.architectures.registry import blocks_of
from maxbuild.errors import UnsupportedModel
from maxbuild.models.attention import AttentionCall, answered_by, masks_as_rules
from maxbuild.models.structure import WatchedIndex, describe_structure, watch_indices

TRACE_SIZES: Mapping[str, int] = {"batch": 3, "sequence": 7, "logits": 5, "keys": 11, "cache": 13}
"""Sizes of the dynamic dimensions while tracing: distinct, and not 0 or 1, which torch would take for constants."""


@dataclass(frozen=True, slots=True)
class CacheGeometry:
    """What one attention call keeps: heads and sizes of its keys and values, their dtype, and its window (0: none)."""

    heads: int
    key_size: int
    value_size: int
    dtype: torch.dtype
    window: int


@dataclass(slots=True)
class BlockCall:
    """One block of the model, and how the model called it."""

    name: str
    module: nn.Module
    watched: tuple[WatchedIndex, ...]
    leaves: list[Any] = field(default_factory=list)
    arguments: pytree.TreeSpec | None = None
    results: pytree.TreeSpec | None = None
    caches: list[CacheGeometry] = field(default_factory=list)

    @property
    def tensors(self) -> list[Tensor]:
        """Return the tensors among the arguments, in order; the first is the hidden state."""
        return [leaf for leaf in self.leaves if isinstance(leaf, Tensor)]

    def rebuild(self, tensors: list[Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return positional and keyword arguments like the observed ones, with other tensors."""
        remaining = iter(tensors)
        leaves = [next(remaining) if isinstance(leaf, Tensor) else leaf for leaf in self.leaves]
        assert self.arguments is not None
        args, kwargs = pytree.tree_unflatten(leaves, self.arguments)
        return args, kwargs

    def structure(self) -> Hashable:
        """Return a value equal to another block's only if both would trace to the same graph."""
        shapes = tuple(
            ("tensor", tuple(leaf.shape), leaf.dtype) if isinstance(leaf, Tensor) else ("value", repr(leaf))
            for leaf in self.leaves
        )
        own_index = self.name if any(index.seen for index in self.watched) else None
        return (describe_structure(self.module), shapes, str(self.arguments), tuple(self.caches), own_index)


def find_blocks(model: PreTrainedModel) -> list[tuple[str, nn.Module]]:
    """Return names and modules of the repeated blocks; raise UnsupportedModel where there is no such list."""
    declared = blocks_of(model)
    if declared is not None:
        return _declared_blocks(model, declared)
    depth = model.config.get_text_config().num_hidden_layers
    lists = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == depth
    ]
    outermost = [(n, m) for n, m in lists if not any(n.startswith(f"{other}.") for other, _ in lists)]
    for name, module in outermost:
        if any("attention" in type(part).__name__.lower() for part in module.modules()):
            return [(f"{name}.{index}", block) for index, block in enumerate(module)]
    raise UnsupportedModel(f"`{type(model).__name__}` has no list of {depth} decoder layers with attention")


def _declared_blocks(model: PreTrainedModel, name: str) -> list[tuple[str, nn.Module]]:
    """Return the blocks in the list that the model's custom architecture names."""
    found = dict(model.named_modules()).get(name)
    if not isinstance(found, nn.ModuleList) or not len(found):
        raise UnsupportedModel(
            f"`{type(model).__name__}` has no ModuleList `{name}`, which its architecture says its blocks are in",
            hint="`blocks` is a name as `model.named_modules()` has it, `model.layers` say",
        )
    return [(f"{name}.{index}", block) for index, block in enumerate(found)]


def observe_blocks(model: PreTrainedModel) -> list[BlockCall]:
    """Run `model` once on the meta device and return its blocks' calls, in order.

    Raise UnsupportedModel where blocks do not run once each in order, do not turn a hidden state into one of the same
    shape, or where attention happens outside of them.
    """
    _refuse_padded_positions(model)
    observer = _Observer(model)
    try:
        with torch.no_grad(), observer, masks_as_rules(model), answered_by(observer.record):
            model(**_meta_tokens(), use_cache=False)
    except UnsupportedModel:
        raise
    except Exception as error:
        raise UnsupportedModel(
            f"`{type(model).__name__}` does not run with attention, masks and data taken away",
            causes=[f"{type(error).__name__}: {error}".splitlines()[0]],
            hint="only decoders that leave attention and masks to transformers' interfaces can be outlined",
        ) from error
    if observer.finished != observer.calls:
        raise UnsupportedModel(f"`{type(model).__name__}` does not run its decoder layers once each, in order")
    return observer.calls


def _refuse_padded_positions(model: PreTrainedModel) -> None:
    """Raise UnsupportedModel where position embeddings count around padding, as RoBERTa's do: programs count from 0."""
    for name, module in model.named_modules():
        if "position" in name and getattr(module, "padding_idx", None) is not None:
            raise UnsupportedModel(f"`{name}` numbers positions around padding tokens, which is not supported")


class _Observer:
    """Notes what each block is called with, what it attends over, and what it returns, while the context lasts."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.calls = [BlockCall(name, module, watch_indices(module)) for name, module in find_blocks(model)]
        self.finished: list[BlockCall] = []
        self._running: list[BlockCall] = []
        self._title = type(model).__name__
        self._hooks: list[RemovableHandle] = []

    def __enter__(self) -> None:
        for call in self.calls:
            self._hooks.append(call.module.register_forward_pre_hook(self._entering(call), with_kwargs=True))
            self._hooks.append(call.module.register_forward_hook(self._leaving(call), with_kwargs=True))

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def record(self, attention: AttentionCall) -> Tensor:
        """Note the geometry of an attention call and answer it with a tensor of the right shape."""
        if not self._running:
            raise UnsupportedModel(f"`{self._title}` attends outside of its decoder layers")
        self._running[-1].caches.append(_geometry(attention))
        batch, heads, sequence, _ = attention.query.shape
        return attention.query.new_empty(batch, sequence, heads, attention.value.shape[-1])

    def _entering(self, call: BlockCall) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            call.leaves, call.arguments = pytree.tree_flatten((args, kwargs))
            self._running.append(call)

        return hook

    def _leaving(self, call: BlockCall) -> Callable[..., None]:
        def hook(_: nn.Module, __: object, ___: object, result: object) -> None:
            self._running.remove(call)
            self.finished.append(call)
            _check_result(call, result)

        return hook


def _meta_tokens() -> dict[str, Tensor]:
    shape = (TRACE_SIZES["batch"], TRACE_SIZES["sequence"])
    return {name: torch.zeros(shape, dtype=torch.int64, device="meta") for name in ("input_ids", "position_ids")}


def _geometry(attention: AttentionCall) -> CacheGeometry:
    return CacheGeometry(
        heads=attention.key.shape[1],
        key_size=attention.key.shape[-1],
        value_size=attention.value.shape[-1],
        dtype=attention.key.dtype,
        window=attention.window,
    )


def _check_result(call: BlockCall, result: object) -> None:
    leaves, call.results = pytree.tree_flatten(result)
    hidden = call.tensors[0]
    made = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    if len(made) != 1 or made[0].shape != hidden.shape or made[0].dtype != hidden.dtype:
        raise UnsupportedModel(f"layer `{call.name}` does not turn a hidden state into one of the same shape")
    if not call.caches:
        raise UnsupportedModel(
            f"layer `{call.name}` does not attend through transformers' attention interface",
            hint="layers with recurrent state (Mamba, linear attention) cannot be outlined yet",
        )
