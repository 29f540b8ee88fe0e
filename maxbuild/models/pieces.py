"""Cut the graph around a model's blocks at the operators that mark them.

Invariant: what a piece holds, and in which order, depends on what is computed and used, not on the order in which a
model's code happens to compute independent things.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from torch import Tensor, fx

from maxbuild.errors import UnsupportedModel
from maxbuild.models.graph import has_effect, is_assertion
from maxbuild.models.stubs import BLOCK


@dataclass(slots=True)
class Piece:
    """The code between two blocks: its nodes in order, the block after it, and which of its tensors are read elsewhere.

    After the last piece comes no block but the graph's output.
    """

    nodes: list[fx.Node]
    block: fx.Node
    outputs: list[fx.Node] = field(default_factory=list)

    def inputs(self) -> list[fx.Node]:
        """Return the nodes outside whose values the piece reads, in order of first use."""
        own = set(self.nodes)
        used = (value for node in self.nodes for value in node.all_input_nodes)
        return [value for value in dict.fromkeys(used) if value not in own]

    def settled(self, read_elsewhere: Iterable[fx.Node]) -> Piece:
        """Return the piece with its outputs in the order in which others read them, and its nodes as those need them.

        The order in which a model computes independent things may be that of a set, which changes from process to
        process; the order in which they are used does not.
        """
        own, ordered = set(self.nodes), dict[fx.Node, None]()
        outputs = [v for v in dict.fromkeys(read_elsewhere) if v in own and isinstance(v.meta.get("val"), Tensor)]

        def visit(node: fx.Node) -> None:
            for value in node.all_input_nodes:
                if value in own and value not in ordered:
                    visit(value)
            ordered[node] = None

        for node in outputs:
            visit(node)
        return Piece(list(ordered), self.block, outputs)


def cut_into_pieces(graph: fx.Graph, blocks: int) -> list[Piece]:
    """Cut a graph at its block operators. A node belongs after the last block that it depends on.

    Sizes are no values that a program passes on: a piece that needs one computes it again from its own tensors.
    """
    ends = [node for node in graph.nodes if node.target is BLOCK]
    if [node.args[0] for node in ends] != list(range(blocks)):
        raise UnsupportedModel("the model does not run its decoder layers once each, in order")
    pieces = [Piece([], end) for end in [*ends, graph.output_node()]]
    level: dict[fx.Node, int] = {}
    for node in graph.nodes:
        if node.op == "get_attr":
            raise UnsupportedModel("the model's code makes constant tensors while it runs, which a trace cannot keep")
        if has_effect(node):
            raise UnsupportedModel(f"the code around the decoder layers changes a tensor in place (`{node.target}`)")
        level[node] = max((level[value] for value in node.all_input_nodes), default=0)
        if node in ends:
            level[node] = ends.index(node) + 1
    _sink_into_later_pieces(graph, ends, level)
    for node in graph.nodes:
        if node not in ends and node.op == "call_function" and isinstance(node.meta.get("val"), Tensor):
            piece = pieces[level[node]]
            piece.nodes.extend(size for size in _sizes_needed(node) if size not in piece.nodes)
            piece.nodes.append(node)
    return _settle(pieces)


def _settle(pieces: Sequence[Piece]) -> list[Piece]:
    """Settle pieces from the last to the first: what a piece leaves is known once all that read it are."""
    settled: list[Piece] = []
    read: list[fx.Node] = []
    for piece in reversed(pieces):
        read = [*piece.block.all_input_nodes, *read]
        settled.insert(0, piece.settled(read))
        read = [*settled[0].inputs(), *read]
    return settled


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


def cut_unused(graph: fx.Graph) -> None:
    """Drop checks, and then whatever nobody uses and has no effect."""
    for node in reversed(graph.nodes):
        if is_assertion(node) or (node.op == "call_function" and not node.users and not has_effect(node)):
            graph.erase_node(node)
