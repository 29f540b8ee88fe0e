"""Outline a model: export the code around its blocks once and one block of each kind, wired by a program.

Invariant: running the program over the regions computes what the model computes; how deep the model is changes how
often a region runs, never how many there are. No architecture is known by name: the blocks' forward methods
are replaced by an opaque operator while the model around them is exported, and the graph is cut at those operators.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.utils import _pytree as pytree
from transformers import PreTrainedModel

from maxbuild.errors import UnsupportedModel
from maxbuild.models.attention import answered_by, masks_as_rules
from maxbuild.models.export import export_graph, spec_of
from maxbuild.models.graph import GraphBuilder, InputSpec, RegionGraph, dtype_name
from maxbuild.models.inputs import (
    KEY_POSITIONS_SPEC,
    POSITIONS_SPEC,
    WeightNames,
    cache_inputs,
    cache_names,
    cache_specs,
    input_specs,
    weight_spec,
)
from maxbuild.models.language_model import as_traced, cached_attention
from maxbuild.models.observe import TRACE_SIZES, BlockCall, observe_blocks
from maxbuild.models.pieces import Piece, cut_into_pieces, cut_unused
from maxbuild.models.stubs import BLOCK, stubbed
from maxbuild.runtime.program import Pooling, Program, Results, Step


@dataclass(frozen=True, slots=True)
class Outline:
    """A program and the graph of each region it names."""

    program: Program
    regions: Mapping[str, RegionGraph]


@dataclass(frozen=True, slots=True)
class _Traced:
    """What is cut: the model as it is traced, its blocks, and its weights."""

    model: nn.Module
    results: Results
    calls: Sequence[BlockCall]
    weights: WeightNames


def outline(
    model: PreTrainedModel,
    max_length: int,
    *,
    use_subgraphs: bool,
    results: Results = Results.CHOSEN,
    pooling: Pooling | None = None,
    cache_dtype: torch.dtype | None = None,
) -> Outline:
    """Turn a model on the meta device into a program and its regions.

    use_subgraphs: one region per kind of block and one per piece around them; else the whole model as one region.
    results: what the program ends with. pooling: of embeddings alone; None: they are not pooled. cache_dtype: how keys
    and values are kept; None: in the dtype that the model computes them in. Raise UnsupportedModel, with the reason,
    where the model cannot be outlined.
    """
    calls = observe_blocks(model)
    for call in calls:
        call.caches = [replace(geometry, dtype=cache_dtype or geometry.dtype) for geometry in call.caches]
    caches = [spec for call in calls for spec in cache_specs(call)]
    traced = _Traced(as_traced(model, results, pooling), results, calls, WeightNames(model))
    build = _Outliner(traced) if use_subgraphs else _WholeModel(traced)
    steps, regions = build.run()
    program = Program(
        max_length=max_length,
        vocab_size=model.config.get_text_config().vocab_size,
        dtype=dtype_name(model.dtype),
        caches=tuple(caches),
        steps=tuple(steps),
        results=results,
        pooling=pooling,
    )
    return Outline(program, regions)


def _region_of_whole_graph(
    graph: fx.Graph, placeholders: Sequence[fx.Node], specs: Sequence[InputSpec]
) -> tuple[RegionGraph, list[int]]:
    """Return the region that `graph` is, and the indices of the inputs that it uses, in order."""
    cut_unused(graph)
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

    def __init__(self, traced: _Traced) -> None:
        self._model, self._results = traced.model, traced.results
        self._calls, self._weights = traced.calls, traced.weights

    def run(self) -> tuple[list[Step], dict[str, RegionGraph]]:
        """Return the single step and its region."""
        weights = self._weights.of(self._model)
        caches_by_name = [name for call in self._calls for name in cache_names(call)]
        inputs = self._results.inputs
        specs = [
            *input_specs(self._results),
            *(spec for call in self._calls for spec in cache_inputs(call)),
            *(weight_spec(tensor) for _, tensor in weights.values()),
        ]
        first_cache = len(inputs)
        first_weight = first_cache + len(caches_by_name)

        def call_model(tensors: Sequence[Tensor]) -> list[Tensor]:
            *arguments, key_positions = tensors[:first_cache]
            caches = tensors[first_cache:first_weight]
            values = dict(zip(weights, tensors[first_weight:], strict=True))
            with answered_by(cached_attention(caches, arguments[1], key_positions)):
                return [functional_call(self._model, values, tuple(arguments))]

        with masks_as_rules(self._model):
            graph, placeholders, _ = export_graph(call_model, specs, TRACE_SIZES)
        region, used = _region_of_whole_graph(graph, placeholders, specs)
        step = Step(
            "model",
            values=_used(inputs, used, 0),
            caches=_used(caches_by_name, used, first_cache),
            weights=_used([name for name, _ in weights.values()], used, first_weight),
            outputs=(self._results.output,),
        )
        return [step], {"model": region}


@dataclass(frozen=True, slots=True)
class _Kind:
    """A region kind: its name, its graph, and how a call of it is put together."""

    name: str
    region: RegionGraph
    used: tuple[int, ...]


class _Outliner:
    """Makes one region per kind of block and one per piece of code around the blocks."""

    def __init__(self, traced: _Traced) -> None:
        self._model, self._results = traced.model, traced.results
        self._calls, self._weights = traced.calls, traced.weights
        # Blocks alone read the last input.
        self._inputs = traced.results.inputs[:-1]
        self._symbols: Mapping[str, str] = {}
        self._value_names: dict[fx.Node, str] = {}
        self._weight_nodes: dict[fx.Node, tuple[str, InputSpec]] = {}
        self._regions: dict[str, RegionGraph] = {}

    def run(self) -> tuple[list[Step], dict[str, RegionGraph]]:
        """Return the steps in order, and the regions."""
        graph = self._export_around_blocks()
        pieces = cut_into_pieces(graph, len(self._calls))
        kinds = self._export_kinds(graph)
        steps: list[Step] = []
        for index, piece in enumerate(pieces):
            if piece.nodes:
                steps.append(self._piece_step(piece, index))
            if index < len(self._calls):
                steps.append(self._block_step(piece.block, self._calls[index], kinds[index]))
        final = self._value_names[_outputs(graph)[0]]
        return _with_final_name(steps, final, self._results.output), self._regions

    def _export_around_blocks(self) -> fx.Graph:
        block_prefixes = tuple(f"model.{call.name}." for call in self._calls)
        weights = {
            name: named for name, named in self._weights.of(self._model).items() if not name.startswith(block_prefixes)
        }
        first = len(self._inputs)
        specs = [*input_specs(self._results)[:first], *(weight_spec(tensor) for _, tensor in weights.values())]

        def call_model(tensors: Sequence[Tensor]) -> list[Tensor]:
            values = dict(zip(weights, tensors[first:], strict=True))
            return [functional_call(self._model, values, tuple(tensors[:first]))]

        with masks_as_rules(self._model), stubbed(self._calls):
            graph, placeholders, self._symbols = export_graph(call_model, specs, TRACE_SIZES)
        cut_unused(graph)
        self._value_names = dict(zip(placeholders[:first], self._inputs, strict=True))
        self._weight_nodes = {
            node: (name, spec)
            for node, (name, _), spec in zip(placeholders[first:], weights.values(), specs[first:], strict=True)
        }
        return graph

    def _export_kinds(self, graph: fx.Graph) -> list[_Kind]:
        """Export one block of each kind; return the kind of every block."""
        nodes = [node for node in graph.nodes if node.target is BLOCK]
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
            POSITIONS_SPEC,
            KEY_POSITIONS_SPEC,
            *cache_inputs(call),
            *(weight_spec(tensor) for _, tensor in weights.values()),
        ]
        first_cache = len(values) + 2
        first_weight = first_cache + 2 * len(call.caches)

        def call_block(tensors: Sequence[Tensor]) -> list[Tensor]:
            positions, key_positions = tensors[len(values) : first_cache]
            caches = tensors[first_cache:first_weight]
            args, kwargs = call.rebuild(list(tensors[: len(values)]))
            state = dict(zip(weights, tensors[first_weight:], strict=True))
            with answered_by(cached_attention(caches, positions, key_positions)):
                result = functional_call(call.module, state, args, kwargs)
            return [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)]

        graph, placeholders, _ = export_graph(call_block, specs, TRACE_SIZES)
        region, used = _region_of_whole_graph(graph, placeholders, specs)
        return _Kind(name, region, tuple(used))

    def _block_step(self, node: fx.Node, call: BlockCall, kind: _Kind) -> Step:
        if any(value in self._weight_nodes for value in node.args[1]):  # type: ignore[union-attr]
            raise UnsupportedModel(f"layer `{call.name}` is called with a weight, which is not supported")
        values = [*(self._value_names[value] for value in node.args[1]), "positions", "key_positions"]  # type: ignore[union-attr,index]
        caches = cache_names(call)
        weights = [name for name, _ in self._weights.of(call.module).values()]
        self._value_names[node] = f"{call.name}"
        return Step(
            kind.name,
            values=_used(values, kind.used, 0),
            caches=_used(caches, kind.used, len(values)),
            weights=_used(weights, kind.used, len(values) + len(caches)),
            outputs=(self._value_names[node],),
        )

    def _piece_step(self, piece: Piece, index: int) -> Step:
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
        outputs = piece.outputs
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


def _kind_names(representatives: Sequence[BlockCall]) -> list[str]:
    """Name kinds by how they attend, and number those that attend alike."""
    labels = ["sliding" if any(cache.window for cache in call.caches) else "full" for call in representatives]
    counted: dict[str, int] = {}
    names = []
    for label in labels:
        counted[label] = counted.get(label, 0) + 1
        names.append(f"decoder.{label}" + (f".{counted[label]}" if labels.count(label) > 1 else ""))
    return names


def _with_final_name(steps: Sequence[Step], final: str, name: str) -> list[Step]:
    """Give the program's output its name."""
    return [
        Step(
            step.region,
            step.values,
            step.caches,
            step.weights,
            tuple(name if output == final else output for output in step.outputs),
        )
        for step in steps
    ]
