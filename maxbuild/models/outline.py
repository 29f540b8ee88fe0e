"""Outline a model: export the code around its blocks once and one block of each kind, wired by a program.

Invariant: running the program over the regions computes what the model computes; how deep the model is changes how
often a region runs, never how many there are. The method needs no knowledge of an architecture: the blocks' forward methods
are replaced by an opaque operator while the model around them is exported, and the graph is cut at those operators.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.utils import _pytree as pytree
from transformers import PreTrainedModel

from maxbuild.errors import UnsupportedModel
from maxbuild.models.attention import AttentionCall, AttentionHandler, answered_by, attention, masks_as_rules
from maxbuild.models.export import export_graph, spec_of
from maxbuild.models.graph import GraphBuilder, InputSpec, RegionGraph, dtype_name, has_effect, is_assertion
from maxbuild.models.observe import TRACE_SIZES, BlockCall, observe_blocks
from maxbuild.runtime.program import INPUTS, OUTPUT, CacheSpec, Program, Step

_INPUT_SPECS = (
    InputSpec("value", "int64", ("batch", "sequence")),
    InputSpec("value", "int64", ("batch", "sequence")),
    InputSpec("value", "int64", ("batch", "logits")),
    InputSpec("value", "int64", ("keys",)),
)
# What every block gets beside the model's own arguments: attention reads them, the model does not know of them.
_POSITIONS, _KEY_POSITIONS = INPUTS[1], INPUTS[3]


@dataclass(frozen=True, slots=True)
class Outline:
    """A program and the graph of each region it names."""

    program: Program
    regions: Mapping[str, RegionGraph]


def outline(model: PreTrainedModel, max_length: int, *, use_subgraphs: bool) -> Outline:
    """Turn a model on the meta device into a program and its regions.

    use_subgraphs: one region per kind of block and one per piece around them; else the whole model as one region.
    Raise UnsupportedModel, with the reason, where the model cannot be outlined.
    """
    calls = observe_blocks(model)
    weights = _WeightNames(model)
    caches = [spec for call in calls for spec in _cache_specs(call)]
    build = _Outliner(model, calls, weights) if use_subgraphs else _WholeModel(model, calls, weights)
    steps, regions = build.run()
    program = Program(
        max_length=max_length,
        vocab_size=model.config.get_text_config().vocab_size,
        dtype=dtype_name(model.dtype),
        caches=tuple(caches),
        steps=tuple(steps),
    )
    return Outline(program, regions)


class _WeightNames:
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


def _weight_spec(tensor: Tensor) -> InputSpec:
    return InputSpec("weight", dtype_name(tensor.dtype), tuple(tensor.shape))


def _cache_names(call: BlockCall) -> list[str]:
    return [f"{call.name}.{index}.{part}" for index in range(len(call.caches)) for part in ("key", "value")]


def _cache_specs(call: BlockCall) -> list[CacheSpec]:
    sizes = [
        (geometry.heads, size, dtype_name(geometry.dtype))
        for geometry in call.caches
        for size in (geometry.key_size, geometry.value_size)
    ]
    return [CacheSpec(name, *size) for name, size in zip(_cache_names(call), sizes, strict=True)]


def _cache_inputs(call: BlockCall) -> list[InputSpec]:
    return [InputSpec("cache", s.dtype, ("batch", s.heads, "cache", s.size)) for s in _cache_specs(call)]


def _cached_attention(caches: Sequence[Tensor], positions: Tensor, key_positions: Tensor) -> AttentionHandler:
    """Answer attention calls with the operator, each call with the next pair of caches."""
    remaining = iter(caches)

    def handle(call: AttentionCall) -> Tensor:
        return attention(
            call.query,
            call.key,
            call.value,
            next(remaining),
            next(remaining),
            positions,
            key_positions,
            call.scale,
            call.window,
            call.softcap,
            call.sinks,
        )

    return handle


class _LanguageModel(nn.Module):
    """A causal language model that computes logits only where they are wanted."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, positions: Tensor, logit_positions: Tensor) -> Tensor:
        """Return logits (batch, logits, vocabulary): hidden states are picked just before the output embedding."""
        head = self.model.get_output_embeddings()
        if head is None:
            raise UnsupportedModel(f"`{type(self.model).__name__}` has no output embedding")

        def pick(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
            rows = logit_positions[:, :, None].expand(-1, -1, args[0].shape[-1])
            return (args[0].gather(1, rows),)

        hook = head.register_forward_pre_hook(pick)
        try:
            result = self.model(input_ids=input_ids, position_ids=positions, use_cache=False)
        finally:
            hook.remove()
        logits: Tensor = result.logits
        return logits


def _cut_unused(graph: fx.Graph) -> None:
    """Drop checks, and then whatever nobody uses and has no effect."""
    for node in reversed(graph.nodes):
        if is_assertion(node) or (node.op == "call_function" and not node.users and not has_effect(node)):
            graph.erase_node(node)


def _region_of_whole_graph(
    graph: fx.Graph, placeholders: Sequence[fx.Node], specs: Sequence[InputSpec]
) -> tuple[RegionGraph, list[int]]:
    """Return the region that `graph` is, and the indices of the inputs that it uses, in order."""
    _cut_unused(graph)
    used = [index for index, node in enumerate(placeholders) if node.users]
    builder = GraphBuilder()
    for index in used:
        builder.add_input(placeholders[index], specs[index])
    for node in graph.nodes:
        if node.op == "call_function":
            builder.add_node(node)
        elif node.op == "get_attr":
            raise UnsupportedModel("the model's code makes constant tensors while it runs, which a trace cannot keep")
    return builder.finish_contiguous(_outputs(graph)), used


def _outputs(graph: fx.Graph) -> list[fx.Node]:
    return list(graph.output_node().args[0])  # type: ignore[arg-type]


def _used(names: Sequence[str], used: Sequence[int], offset: int) -> tuple[str, ...]:
    return tuple(names[index - offset] for index in used if offset <= index < offset + len(names))


class _WholeModel:
    """Makes one region of the whole model."""

    def __init__(self, model: PreTrainedModel, calls: Sequence[BlockCall], weights: _WeightNames) -> None:
        self._language_model = _LanguageModel(model)
        self._calls = calls
        self._weights = weights

    def run(self) -> tuple[list[Step], dict[str, RegionGraph]]:
        """Return the single step and its region."""
        weights = self._weights.of(self._language_model)
        cache_names = [name for call in self._calls for name in _cache_names(call)]
        specs = [
            *_INPUT_SPECS,
            *(spec for call in self._calls for spec in _cache_inputs(call)),
            *(_weight_spec(tensor) for _, tensor in weights.values()),
        ]
        first_cache = len(INPUTS)
        first_weight = first_cache + len(cache_names)

        def call_model(tensors: Sequence[Tensor]) -> list[Tensor]:
            input_ids, positions, logit_positions, key_positions = tensors[:first_cache]
            caches = tensors[first_cache:first_weight]
            values = dict(zip(weights, tensors[first_weight:], strict=True))
            with answered_by(_cached_attention(caches, positions, key_positions)):
                return [functional_call(self._language_model, values, (input_ids, positions, logit_positions))]

        with masks_as_rules(self._language_model):
            graph, placeholders, _ = export_graph(call_model, specs, TRACE_SIZES)
        region, used = _region_of_whole_graph(graph, placeholders, specs)
        step = Step(
            "model",
            values=_used(INPUTS, used, 0),
            caches=_used(cache_names, used, first_cache),
            weights=_used([name for name, _ in weights.values()], used, first_weight),
            outputs=(OUTPUT,),
        )
        return [step], {"model": region}


@torch.library.custom_op("maxbuild::block", mutates_args=())
def _block(index: int, tensors: list[Tensor]) -> Tensor:
    """Stand for block number `index` while the code around the blocks is exported; never run."""
    raise NotImplementedError("maxbuild::block only marks a place in a graph")


@_block.register_fake
def _block_fake(index: int, tensors: list[Tensor]) -> Tensor:  # noqa: ARG001
    return torch.empty_like(tensors[0])


@dataclass(frozen=True, slots=True)
class _Kind:
    """A region kind: its name, its graph, and how a call of it is put together."""

    name: str
    region: RegionGraph
    used: tuple[int, ...]


class _Outliner:
    """Makes one region per kind of block and one per piece of code around the blocks."""

    def __init__(self, model: PreTrainedModel, calls: Sequence[BlockCall], weights: _WeightNames) -> None:
        self._language_model = _LanguageModel(model)
        self._calls = calls
        self._weights = weights
        self._symbols: Mapping[str, str] = {}
        self._value_names: dict[fx.Node, str] = {}
        self._weight_nodes: dict[fx.Node, tuple[str, InputSpec]] = {}
        self._regions: dict[str, RegionGraph] = {}

    def run(self) -> tuple[list[Step], dict[str, RegionGraph]]:
        """Return the steps in order, and the regions."""
        graph = self._export_around_blocks()
        pieces = _cut_into_pieces(graph, len(self._calls))
        kinds = self._export_kinds(graph)
        steps: list[Step] = []
        for index, piece in enumerate(pieces):
            if piece.nodes:
                steps.append(self._piece_step(piece, index))
            if index < len(self._calls):
                steps.append(self._block_step(piece.block, self._calls[index], kinds[index]))
        return _with_final_name(steps, self._value_names[_outputs(graph)[0]]), self._regions

    def _export_around_blocks(self) -> fx.Graph:
        block_prefixes = tuple(f"model.{call.name}." for call in self._calls)
        weights = {
            name: named
            for name, named in self._weights.of(self._language_model).items()
            if not name.startswith(block_prefixes)
        }
        specs = [*_INPUT_SPECS[:3], *(_weight_spec(tensor) for _, tensor in weights.values())]

        def call_model(tensors: Sequence[Tensor]) -> list[Tensor]:
            values = dict(zip(weights, tensors[3:], strict=True))
            return [functional_call(self._language_model, values, tuple(tensors[:3]))]

        with masks_as_rules(self._language_model), _stubs(self._calls):
            graph, placeholders, self._symbols = export_graph(call_model, specs, TRACE_SIZES)
        _cut_unused(graph)
        self._value_names = dict(zip(placeholders[:3], INPUTS[:3], strict=True))
        self._weight_nodes = {
            node: (name, spec)
            for node, (name, _), spec in zip(placeholders[3:], weights.values(), specs[3:], strict=True)
        }
        return graph

    def _export_kinds(self, graph: fx.Graph) -> list[_Kind]:
        """Export one block of each kind; return the kind of every block."""
        nodes = [node for node in graph.nodes if node.target is torch.ops.maxbuild.block.default]
        groups: dict[object, list[int]] = {}
        for index, call in enumerate(self._calls):
            shapes = tuple(spec_of(node, "value", self._symbols) for node in nodes[index].args[1])
            groups.setdefault((call.structure(), shapes), []).append(index)
        names = _kind_names([self._calls[members[0]] for members in groups.values()])
        kinds: dict[int, _Kind] = {}
        for name, members in zip(names, groups.values(), strict=True):
            kind = self._export_block(name, self._calls[members[0]], nodes[members[0]])
            self._regions[name] = kind.region
            kinds.update(dict.fromkeys(members, kind))
        return [kinds[index] for index in range(len(self._calls))]

    def _export_block(self, name: str, call: BlockCall, node: fx.Node) -> _Kind:
        weights = self._weights.of(call.module)
        values = [spec_of(value, "value", self._symbols) for value in node.args[1]]  # type: ignore[union-attr,arg-type]
        specs = [
            *values,
            _INPUT_SPECS[1],
            _INPUT_SPECS[3],
            *_cache_inputs(call),
            *(_weight_spec(tensor) for _, tensor in weights.values()),
        ]
        first_cache = len(values) + 2
        first_weight = first_cache + 2 * len(call.caches)

        def call_block(tensors: Sequence[Tensor]) -> list[Tensor]:
            positions, key_positions = tensors[len(values) : first_cache]
            caches = tensors[first_cache:first_weight]
            args, kwargs = call.rebuild(list(tensors[: len(values)]))
            state = dict(zip(weights, tensors[first_weight:], strict=True))
            with answered_by(_cached_attention(caches, positions, key_positions)):
                result = functional_call(call.module, state, args, kwargs)
            return [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)]

        graph, placeholders, _ = export_graph(call_block, specs, TRACE_SIZES)
        region, used = _region_of_whole_graph(graph, placeholders, specs)
        return _Kind(name, region, tuple(used))

    def _block_step(self, node: fx.Node, call: BlockCall, kind: _Kind) -> Step:
        values = [*(self._value_names[value] for value in node.args[1]), _POSITIONS, _KEY_POSITIONS]  # type: ignore[union-attr,index]
        caches = _cache_names(call)
        weights = [name for name, _ in self._weights.of(call.module).values()]
        self._value_names[node] = f"{call.name}"
        return Step(
            kind.name,
            values=_used(values, kind.used, 0),
            caches=_used(caches, kind.used, len(values)),
            weights=_used(weights, kind.used, len(values) + len(caches)),
            outputs=(self._value_names[node],),
        )

    def _piece_step(self, piece: _Piece, index: int) -> Step:
        """Turn the nodes of a piece into a region (shared with an equal one before it) and the step that runs it."""
        builder = GraphBuilder()
        inputs = piece.inputs()
        values = [node for node in inputs if node not in self._weight_nodes]
        weights = [node for node in inputs if node in self._weight_nodes]
        for node in values:
            builder.add_input(node, spec_of(node, "value", self._symbols))
        for node in weights:
            builder.add_input(node, self._weight_nodes[node][1])
        for node in piece.nodes:
            builder.add_node(node)
        outputs = piece.outputs()
        region = builder.finish_contiguous(outputs)
        name = next((name for name, known in self._regions.items() if known == region), None)
        if name is None:
            name = {0: "before", len(self._calls): "after"}.get(index, f"between.{index}")
            self._regions[name] = region
        for number, node in enumerate(outputs):
            self._value_names[node] = f"{index}.{number}"
        return Step(
            name,
            values=tuple(self._value_names[node] for node in values),
            caches=(),
            weights=tuple(self._weight_nodes[node][0] for node in weights),
            outputs=tuple(self._value_names[node] for node in outputs),
        )


class _stubs:  # noqa: N801 - a context manager, used like a function
    """Replace the blocks' forward methods by the marking operator while the context lasts."""

    def __init__(self, calls: Sequence[BlockCall]) -> None:
        self._calls = calls

    def __enter__(self) -> None:
        for index, call in enumerate(self._calls):
            call.module.forward = _stub(index, call)  # type: ignore[method-assign]

    def __exit__(self, *_: object) -> None:
        for call in self._calls:
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


@dataclass(slots=True)
class _Piece:
    """The code between two blocks: its nodes in order, and the block after it (for the last piece, the output)."""

    nodes: list[fx.Node]
    block: fx.Node

    def inputs(self) -> list[fx.Node]:
        """Return the nodes outside whose values the piece reads, in order of first use."""
        own = set(self.nodes)
        used = (value for node in self.nodes for value in node.all_input_nodes)
        return [value for value in dict.fromkeys(used) if value not in own]

    def outputs(self) -> list[fx.Node]:
        """Return the piece's nodes whose tensors are read outside, in the order in which they are."""
        own = set(self.nodes)
        readers = (node for node in self.block.graph.nodes if node not in own)
        read = (value for reader in readers for value in reader.all_input_nodes)
        return [v for v in dict.fromkeys(read) if v in own and isinstance(v.meta.get("val"), Tensor)]

    def in_order_of_use(self) -> _Piece:
        """Return the piece with its nodes in the order in which its outputs need them.

        The order in which a model computes independent things may be that of a set, which changes from process to
        process; the order in which they are used does not. A piece with effects stays as it was traced.
        """
        if any(has_effect(node) for node in self.nodes):
            return self
        own, ordered = set(self.nodes), dict[fx.Node, None]()

        def visit(node: fx.Node) -> None:
            for value in node.all_input_nodes:
                if value in own and value not in ordered:
                    visit(value)
            ordered[node] = None

        for node in self.outputs():
            visit(node)
        return _Piece(list(ordered), self.block)


def _cut_into_pieces(graph: fx.Graph, blocks: int) -> list[_Piece]:
    """Cut a graph at its block operators. A node belongs after the last block that it depends on.

    Sizes are no values that a program passes on: a piece that needs one computes it again from its own tensors.
    """
    ends = [node for node in graph.nodes if node.target is torch.ops.maxbuild.block.default]
    if [node.args[0] for node in ends] != list(range(blocks)):
        raise UnsupportedModel("the model does not run its decoder layers once each, in order")
    pieces = [_Piece([], end) for end in [*ends, graph.output_node()]]
    level: dict[fx.Node, int] = {}
    for node in graph.nodes:
        if node.op == "get_attr":
            raise UnsupportedModel("the model's code makes constant tensors while it runs, which a trace cannot keep")
        level[node] = max((level[value] for value in node.all_input_nodes), default=0)
        if node in ends:
            level[node] = ends.index(node) + 1
    _sink_into_later_pieces(graph, ends, level)
    for node in graph.nodes:
        if node not in ends and node.op == "call_function" and isinstance(node.meta.get("val"), Tensor):
            piece = pieces[level[node]]
            piece.nodes.extend(size for size in _sizes_needed(node) if size not in piece.nodes)
            piece.nodes.append(node)
    return [piece.in_order_of_use() for piece in pieces]


def _sink_into_later_pieces(graph: fx.Graph, ends: Sequence[fx.Node], level: dict[fx.Node, int]) -> None:
    """Move what is used in one later piece alone into it, so that it is no value that the program carries there."""
    for node in reversed(graph.nodes):
        later = {level[user] for user in node.users if user.op == "call_function" and user not in ends}
        only_computed_with = all(user.op == "call_function" and user not in ends for user in node.users)
        if node.op == "call_function" and node not in ends and only_computed_with and len(later) == 1:
            level[node] = later.pop()


def _sizes_needed(node: fx.Node) -> list[fx.Node]:
    """Return the nodes that compute the sizes `node` reads, in order."""
    needed: list[fx.Node] = []
    for value in node.all_input_nodes:
        if value.op == "call_function" and not isinstance(value.meta.get("val"), Tensor):
            needed.extend(size for size in [*_sizes_needed(value), value] if size not in needed)
    return needed


def _kind_names(representatives: Sequence[BlockCall]) -> list[str]:
    """Name kinds by how they attend, and number those that attend alike."""
    labels = ["sliding" if any(cache.window for cache in call.caches) else "full" for call in representatives]
    counted: dict[str, int] = {}
    names = []
    for label in labels:
        counted[label] = counted.get(label, 0) + 1
        names.append(f"decoder.{label}" + (f".{counted[label]}" if labels.count(label) > 1 else ""))
    return names


def _with_final_name(steps: Sequence[Step], final: str) -> list[Step]:
    """Give the program's output its name."""
    return [
        Step(
            step.region,
            step.values,
            step.caches,
            step.weights,
            tuple(OUTPUT if name == final else name for name in step.outputs),
        )
        for step in steps
    ]
