"""The graph of a region as data: canonical, free of targets, and safe to read back.

Invariant: equal graphs have equal bytes. Names of nodes, source locations and devices never enter; operators are named
and looked up in closed namespaces, so reading a graph imports and runs nothing but torch's own operators.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import fx

from maxbuild.errors import UnsupportedModel

SCHEMA = "maxbuild.region.v1"

_NAMESPACES = frozenset({"aten", "prims", "maxbuild"})

# Operators beside those of these namespaces: what the custom architectures of this process bring.
_admitted: set[str] = set()

# Functions on sizes that torch.export leaves in graphs beside operators.
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{f"operator.{name}": getattr(operator, name) for name in (
        "getitem", "add", "sub", "mul", "floordiv", "mod", "neg", "truediv", "pow", "eq", "ne", "lt", "le", "gt", "ge",
    )},
    **{f"torch.{name}": getattr(torch, name) for name in ("sym_max", "sym_min", "sym_int", "sym_float", "sym_ite")},
    **{f"math.{name}": getattr(math, name) for name in ("ceil", "floor", "trunc")},
}  # fmt: skip
_FUNCTION_NAMES = {function: name for name, function in _FUNCTIONS.items()}

# Checks of what tracing saw; they name the tracing device and guard nothing a compiled region needs.
_ASSERTIONS = frozenset({"aten._assert_tensor_metadata.default", "aten._assert_scalar.default"})


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input of a region: a value, a cache or a weight.

    shape: one entry per dimension, an int or the name of a dynamic dimension (an expression of such names where the
    size is derived, as in `batch*sequence`).
    """

    kind: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class GraphNode:
    """One operator call. Arguments are JSON values; `{"ref": i}` is the i-th of inputs and nodes, counted together."""

    operator: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RegionGraph:
    """A straight line of operator calls from inputs to outputs (each an index into inputs and nodes)."""

    inputs: tuple[InputSpec, ...]
    nodes: tuple[GraphNode, ...]
    outputs: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form. It holds no floats (each is spelled as a string), so its canonical bytes are one."""
        return {
            "schema": SCHEMA,
            "inputs": [{"kind": i.kind, "dtype": i.dtype, "shape": list(i.shape)} for i in self.inputs],
            "nodes": [{"operator": n.operator, "args": list(n.args), "kwargs": dict(n.kwargs)} for n in self.nodes],
            "outputs": list(self.outputs),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read the JSON form; ValueError when the schema is another."""
        if document.get("schema") != SCHEMA:
            raise ValueError(f"not a region graph of schema {SCHEMA}: {document.get('schema')!r}")
        return cls(
            inputs=tuple(InputSpec(i["kind"], i["dtype"], tuple(i["shape"])) for i in document["inputs"]),
            nodes=tuple(GraphNode(n["operator"], tuple(n["args"]), n["kwargs"]) for n in document["nodes"]),
            outputs=tuple(document["outputs"]),
        )

    def to_module(
        self, device: torch.device, lowerings: Mapping[str, Callable[..., Any]] | None = None
    ) -> fx.GraphModule:
        """Return a module `forward(*inputs) -> tuple of outputs` that runs the graph on `device`.

        lowerings: functions that take the place of operators, by operator name.
        """
        graph = fx.Graph()
        made: list[fx.Node] = [graph.placeholder(f"input_{index}") for index in range(len(self.inputs))]
        for node in self.nodes:
            target = (lowerings or {}).get(node.operator) or _find_operator(node.operator)
            args = tuple(_decode(argument, made, device) for argument in node.args)
            kwargs = {name: _decode(argument, made, device) for name, argument in node.kwargs.items()}
            made.append(graph.call_function(target, args, kwargs))
        graph.output(tuple(made[index] for index in self.outputs))
        return fx.GraphModule(torch.nn.Module(), graph)


def _find_operator(name: str) -> Callable[..., Any]:
    if name in _FUNCTIONS:
        return _FUNCTIONS[name]
    namespace, operator_name, overload = name.split(".")
    if namespace not in _NAMESPACES and name not in _admitted:
        raise ValueError(f"operator {name} is in no known namespace")
    found: Callable[..., Any] = getattr(getattr(getattr(torch.ops, namespace), operator_name), overload)
    return found


def admit_operators(names: Iterable[str]) -> None:
    """Let regions hold these operators too, from now on in this process, in place of those admitted before."""
    _admitted.clear()
    _admitted.update(names)


def operator_name(target: object) -> str:
    """Return the name of a graph node's target; raise UnsupportedModel where a region cannot hold it."""
    if isinstance(target, torch._ops.OpOverload):
        name = str(target)
        if name.split(".", maxsplit=1)[0] in _NAMESPACES or name in _admitted:
            return name
    elif callable(target) and target in _FUNCTION_NAMES:
        return _FUNCTION_NAMES[target]
    raise UnsupportedModel(f"the traced graph holds `{target}`, which a region cannot hold")


class GraphBuilder:
    """Builds a RegionGraph from nodes of an exported graph, in their order."""

    def __init__(self) -> None:
        """Start with no inputs and no nodes."""
        self._inputs: list[InputSpec] = []
        self._nodes: list[GraphNode] = []
        self._index: dict[fx.Node, int] = {}

    def add_input(self, node: fx.Node, spec: InputSpec) -> None:
        """Make `node`'s value an input. All inputs come before all nodes."""
        if self._nodes:
            raise ValueError("inputs come before nodes")
        self._index[node] = len(self._inputs)
        self._inputs.append(spec)

    def add_node(self, node: fx.Node) -> None:
        """Append `node`; its arguments are known already. Raise UnsupportedModel where it cannot be data."""
        args = tuple(_encode(argument, self._index) for argument in node.args)
        kwargs = {name: _encode(argument, self._index) for name, argument in node.kwargs.items()}
        self._index[node] = len(self._inputs) + len(self._nodes)
        self._nodes.append(GraphNode(operator_name(node.target), args, kwargs))

    def finish_contiguous(self, outputs: Sequence[fx.Node]) -> RegionGraph:
        """Return the graph with these outputs, each laid out densely: regions agree on values by shape alone."""
        dense = tuple(self._dense(node) for node in outputs)  # which may add nodes
        return RegionGraph(tuple(self._inputs), tuple(self._nodes), dense)

    def _dense(self, node: fx.Node) -> int:
        index = self._index[node]
        if node.meta["val"].is_contiguous():
            return index
        self._nodes.append(GraphNode("aten.contiguous.default", ({"ref": index},), {}))
        return len(self._inputs) + len(self._nodes) - 1


def is_assertion(node: fx.Node) -> bool:
    """Tell whether a node only checks what tracing saw."""
    return node.op == "call_function" and str(node.target) in _ASSERTIONS


def has_effect(node: fx.Node) -> bool:
    """Tell whether a node changes one of its arguments, so that it counts though nobody uses its result."""
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def dtype_name(dtype: torch.dtype) -> str:
    """Return `float32` for torch.float32."""
    return str(dtype).removeprefix("torch.")


def _encode(value: Any, index: Mapping[fx.Node, int]) -> Any:
    match value:
        case fx.Node():
            return {"ref": index[value]}
        case None | bool() | int() | str():
            return value
        case float():
            return {"float": repr(value)}
        case list() | tuple():
            return [_encode(item, index) for item in value]
        case torch.dtype():
            return {"dtype": dtype_name(value)}
        case torch.device():
            return {"device": "target"}
        case torch.memory_format():
            return {"memory_format": str(value).removeprefix("torch.")}
        case torch.layout():
            return {"layout": str(value).removeprefix("torch.")}
        case _:
            raise UnsupportedModel(f"the traced graph holds a {type(value).__name__}, which a region cannot hold")


def _decode(value: Any, made: Sequence[fx.Node], device: torch.device) -> Any:
    match value:
        case {"ref": int(index)}:
            return made[index]
        case {"float": str(text)}:
            return float(text)
        case {"dtype": str(name)} | {"memory_format": str(name)} | {"layout": str(name)}:
            return getattr(torch, name)
        case {"device": "target"}:
            return device
        case list():
            return [_decode(item, made, device) for item in value]
        case _:
            return value
