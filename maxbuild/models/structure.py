"""Tell apart the kinds of a model's repeated blocks by what they are, never by their names.

Invariant: two blocks are of one kind only if everything that their forward pass can read is equal: classes, attributes,
shapes and dtypes of weights, and the arguments they are called with. Where equality cannot be seen, they differ.
"""

from __future__ import annotations

import enum
import functools
import types
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

# A layer's number in its model, which transformers stores for its cache's sake. No other attribute is set aside.
_INDEX_NAMES = frozenset({"layer_idx", "layer_index", "layer_id", "layer_number", "block_idx"})

# What torch keeps in every module's own dictionary beside the attributes that a forward pass reads.
_MODULE_INTERNALS = frozenset(vars(nn.Module())) - {"training"}


class WatchedIndex:
    """A layer's number that knows whether anyone looked at it.

    It is no int on purpose: C code that takes an int subclass (indexing a list, say) reads it without a call.
    """

    def __init__(self, value: int) -> None:
        """Hold `value`, not looked at yet."""
        self._value = value
        self.seen = False

    def _read(self) -> int:
        self.seen = True
        return self._value

    def __index__(self) -> int:
        """Give the number away, and remember it."""
        return self._read()

    __int__ = __index__
    __hash__ = __index__

    def __eq__(self, other: object) -> bool:
        """Compare the number, and remember it."""
        return self._read() == other

    def __bool__(self) -> bool:
        """Tell whether the number is not zero, and remember it."""
        return bool(self._read())

    def __repr__(self) -> str:
        """Spell the number, and remember it."""
        return repr(self._read())

    def __getattr__(self, name: str) -> Any:
        """Answer anything else as the int would, and remember it."""
        return getattr(self._read(), name)


def _delegate(name: str) -> Any:
    def method(self: WatchedIndex, *others: Any) -> Any:
        return getattr(self._read(), name)(*others)

    return method


for _operation in (
    "add",
    "radd",
    "sub",
    "rsub",
    "mul",
    "rmul",
    "mod",
    "rmod",
    "floordiv",
    "truediv",
    "lt",
    "le",
    "gt",
    "ge",
):
    setattr(WatchedIndex, f"__{_operation}__", _delegate(f"__{_operation}__"))


def watch_indices(block: nn.Module) -> tuple[WatchedIndex, ...]:
    """Replace the layer numbers in `block` by watched ones and return these."""
    watched = []
    for module in block.modules():
        for name, value in vars(module).items():
            if name in _INDEX_NAMES and type(value) is int:
                index = WatchedIndex(value)
                setattr(module, name, index)
                watched.append(index)
    return tuple(watched)


def describe_structure(block: nn.Module) -> Hashable:
    """Return a value that is equal for two blocks (of one model, in one process) only if their code paths are."""
    own = tuple(name for name, _ in [*block.named_parameters(), *block.named_buffers()])  # a tied tensor once
    return (own, *(_describe_module(name, module) for name, module in block.named_modules()))


def _describe_module(name: str, module: nn.Module) -> Hashable:
    attributes = {key: value for key, value in vars(module).items() if key not in _MODULE_INTERNALS}
    return (
        name,
        _qualified_name(type(module)),
        _describe(attributes),
        tuple(_describe_tensors(module)),
    )


def _describe_tensors(module: nn.Module) -> Iterator[Hashable]:
    for kind, tensors in (("parameter", module._parameters), ("buffer", module._buffers)):
        for name, tensor in tensors.items():
            yield kind, name, None if tensor is None else (tuple(tensor.shape), tensor.dtype)


def _describe(value: Any) -> Hashable:
    match value:
        case WatchedIndex():
            # Set aside here: whoever looks at it makes the block a kind of its own.
            return "layer index"
        case (
            None | bool() | int() | float() | str() | bytes() | complex() | enum.Enum() | torch.dtype() | torch.device()
        ):
            return (type(value).__name__, value)
        case list() | tuple() | torch.Size():
            return (type(value).__name__, *(_describe(item) for item in value))
        case set() | frozenset():
            return ("set", frozenset(_describe(item) for item in value))
        case Mapping():
            return ("mapping", *((str(key), _describe(item)) for key, item in sorted(value.items(), key=_by_name)))
        case functools.partial():
            return ("partial", _describe(value.func), _describe(value.args), _describe(value.keywords))
        case types.FunctionType() if value.__closure__ is None:
            # Not by name: two lambdas of one line, or one with two defaults, are called alike.
            return ("function", value.__code__, _describe(value.__defaults__), _describe(value.__kwdefaults__))
        case types.BuiltinFunctionType() | type():
            return ("function", _qualified_name(value))
        case _:
            # A config object that the layers share is the same object; anything else unknown makes them differ.
            return ("object", id(value))


def _qualified_name(value: Any) -> str:
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', repr(value))}"


def _by_name(item: tuple[object, object]) -> str:
    return str(item[0])
