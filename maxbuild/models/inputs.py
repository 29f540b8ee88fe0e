"""What regions take as inputs: the program's values, the caches of a block, and weights under their one name each."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from maxbuild.models.graph import InputSpec, dtype_name
from maxbuild.models.observe import BlockCall
from maxbuild.runtime.program import CacheSpec, Results

_TOKENS = InputSpec("value", "int64", ("batch", "sequence"))
_LOGITS = InputSpec("value", "int64", ("logits",))

_OWN_SPECS: Mapping[Results, tuple[InputSpec, ...]] = {
    Results.CHOSEN: (InputSpec("value", "int64", ("batch", "logits")),),
    Results.RAGGED: (_LOGITS, _LOGITS),
    Results.EVERY: (),
    Results.EMBEDDING: (InputSpec("value", "int64", ("batch",)),),
}

POSITIONS_SPEC = _TOKENS
KEY_POSITIONS_SPEC = InputSpec("value", "int64", ("keys",))
"""What every block gets beside the model's own arguments: attention reads them, the model does not know of them."""


def input_specs(results: Results) -> tuple[InputSpec, ...]:
    """Return what `results.inputs` are, in order."""
    return (_TOKENS, POSITIONS_SPEC, *_OWN_SPECS[results], KEY_POSITIONS_SPEC)


class WeightNames:
    """The parameters and buffers of a model, each tensor under one name however often it is tied."""

    def __init__(self, model: nn.Module) -> None:
        named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
        self._first: dict[int, str] = {}
        for name, tensor in named:
            self._first.setdefault(id(tensor), name)

    def of(self, module: nn.Module) -> dict[str, tuple[str, Tensor]]:
        """Return for each tensor of `module`: its name there → (its one name in the model, the tensor)."""
        named = [*module.named_parameters(), *module.named_buffers()]
        return {local: (self._first[id(tensor)], tensor) for local, tensor in named}


def weight_spec(tensor: Tensor) -> InputSpec:
    """Return what an input must be to stand for a weight."""
    return InputSpec("weight", dtype_name(tensor.dtype), tuple(tensor.shape))


def cache_names(call: BlockCall) -> list[str]:
    """Return the names of a block's caches: a key and a value cache for each of its attention calls."""
    return [f"{call.name}.{index}.{part}" for index in range(len(call.caches)) for part in ("key", "value")]


def cache_specs(call: BlockCall) -> list[CacheSpec]:
    """Return a block's caches as a program lists them."""
    sizes = [
        (geometry.heads, size, dtype_name(geometry.dtype))
        for geometry in call.caches
        for size in (geometry.key_size, geometry.value_size)
    ]
    return [CacheSpec(name, *size) for name, size in zip(cache_names(call), sizes, strict=True)]


def cache_inputs(call: BlockCall) -> list[InputSpec]:
    """Return a block's caches as inputs of its region."""
    return [InputSpec("cache", s.dtype, ("batch", s.heads, "cache", s.size)) for s in cache_specs(call)]
