"""Export a function of tensors to a graph with named dynamic dimensions, without data.

Invariant: everything a graph needs is an input of it: values, caches and weights alike. A constant that tracing made up
is refused, since it has no data on the meta device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sympy
import torch
from torch import Tensor, fx, nn
from torch.export import Dim

from maxbuild.errors import UnsupportedModel
from maxbuild.models.graph import InputSpec, dtype_name

Shape = tuple[int | str, ...]
"""One entry per dimension: an int, the name of a dynamic dimension, or an expression of such names."""


class _Function(nn.Module):
    """Lets torch.export trace a plain function of a list of tensors."""

    def __init__(self, function: Callable[[Sequence[Tensor]], Sequence[Tensor]]) -> None:
        super().__init__()
        self._function = function

    def forward(self, tensors: list[Tensor]) -> tuple[Tensor, ...]:
        return tuple(self._function(tensors))


def example_tensor(spec: InputSpec, sizes: Mapping[str, int], device: str) -> Tensor:
    """Return a tensor of the input's dtype and shape, its dynamic dimensions as large as `sizes` says."""
    shape = [int(sympy.sympify(size, locals=_symbols()).subs(sizes)) for size in spec.shape]
    return torch.zeros(shape, dtype=getattr(torch, spec.dtype), device=device)


def dynamic_shapes(specs: Sequence[InputSpec]) -> list[dict[int, Any]]:
    """Return torch.export's description of which dimensions of each input are dynamic."""
    dims: dict[str, Any] = {}
    described = []
    for spec in specs:
        entry: dict[int, Any] = {}
        for axis, size in enumerate(spec.shape):
            if isinstance(size, str):
                entry[axis] = dims.setdefault(size, Dim(size, min=1)) if size.isidentifier() else Dim.AUTO
        described.append(entry)
    return described


def export_function(
    function: Callable[[Sequence[Tensor]], Sequence[Tensor]],
    specs: Sequence[InputSpec],
    sizes: Mapping[str, int],
    device: str,
) -> torch.export.ExportedProgram:
    """Trace `function` of a list of tensors like `specs` on `device`; raise whatever torch.export does."""
    tensors = [example_tensor(spec, sizes, device) for spec in specs]
    with torch.no_grad():
        return torch.export.export(
            _Function(function), (tensors,), dynamic_shapes=(dynamic_shapes(specs),), strict=False
        )


def export_graph(
    function: Callable[[Sequence[Tensor]], Sequence[Tensor]], specs: Sequence[InputSpec], sizes: Mapping[str, int]
) -> tuple[fx.Graph, list[fx.Node], dict[str, str]]:
    """Trace `function`; return the graph, its input nodes in order, and torch's symbol names → ours.

    Raise UnsupportedModel where tracing fails or fixes a dimension that must stay dynamic.
    """
    try:
        exported = export_function(function, specs, sizes, "meta")
    except UnsupportedModel:
        raise
    except Exception as error:
        raise UnsupportedModel(
            "the model's code cannot be traced to a graph", causes=[f"{type(error).__name__}: {_first_lines(error)}"]
        ) from error
    placeholders = [node for node in exported.graph.nodes if node.op == "placeholder"]
    if len(placeholders) != len(specs):
        raise UnsupportedModel("the model's code makes constant tensors while it runs, which a trace cannot keep")
    _refuse_fixed_dimensions(placeholders, specs)
    symbols = {
        str(size.node.expr): name
        for node, spec in zip(placeholders, specs, strict=True)
        for size, name in zip(node.meta["val"].shape, spec.shape, strict=True)
        if isinstance(size, torch.SymInt) and isinstance(name, str)
    }
    return exported.graph, placeholders, symbols


def _refuse_fixed_dimensions(placeholders: Sequence[fx.Node], specs: Sequence[InputSpec]) -> None:
    for node, spec in zip(placeholders, specs, strict=True):
        for size, wanted in zip(node.meta["val"].shape, spec.shape, strict=True):
            if isinstance(wanted, str) and isinstance(size, int):
                raise UnsupportedModel(f"the model's code works for one size of `{wanted}` alone")


def shape_of(node: fx.Node, symbols: Mapping[str, str]) -> Shape:
    """Return the shape of a node's value in our names; raise UnsupportedModel where the data decides it."""
    return tuple(_size(size, symbols) for size in node.meta["val"].shape)


def spec_of(node: fx.Node, kind: str, symbols: Mapping[str, str]) -> InputSpec:
    """Return what an input must be to stand for `node`'s value."""
    return InputSpec(kind, dtype_name(node.meta["val"].dtype), shape_of(node, symbols))


def _size(size: int | torch.SymInt, symbols: Mapping[str, str]) -> int | str:
    if isinstance(size, int):
        return size
    expression = size.node.expr
    unknown = sorted(str(symbol) for symbol in expression.free_symbols if str(symbol) not in symbols)
    if unknown:
        raise UnsupportedModel("the model makes a tensor whose size depends on the data")
    return str(expression.subs({symbol: sympy.Symbol(symbols[str(symbol)]) for symbol in expression.free_symbols}))


def _symbols() -> dict[str, sympy.Symbol]:
    return {name: sympy.Symbol(name) for name in ("batch", "sequence", "logits", "keys", "cache")}


def _first_lines(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:300] or type(error).__name__
