"""The operator of a custom architecture: called like its reference, one node in a trace."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from maxbuild.architectures import Operator


def pair(x: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """Return two tensors that are not dense."""
    return (x * factor).t(), x.t() + 1


scale_and_shift = Operator("tests_operator::pair", reference=pair)


def test_eager_runs_the_reference_and_returns_dense_tensors() -> None:
    """The same numbers as the reference's own."""
    x = torch.arange(6.0).reshape(2, 3)
    got, expected = scale_and_shift(x, 2.0), pair(x, 2.0)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(got, expected, strict=True))
    assert all(tensor.is_contiguous() for tensor in got)


def test_shapes_are_worked_out_without_data() -> None:
    """On the meta device the reference gives shapes and dtypes."""
    first, second = scale_and_shift(torch.empty(2, 3, device="meta"), 2.0)
    assert first.shape == second.shape == (3, 2)


def test_it_is_one_node_of_a_trace() -> None:
    """With sizes that stay symbols, and by the name that region graphs have."""

    class Twice(torch.nn.Module):
        def forward(self, x: Tensor) -> Any:
            return scale_and_shift(x, 2.0)

    size = torch.export.Dim("size", min=1)
    exported = torch.export.export(Twice(), (torch.ones(2, 3),), dynamic_shapes=({0: size},), strict=False)
    nodes = [node for node in exported.graph.nodes if str(node.target).startswith("tests_operator")]
    assert [str(node.target) for node in nodes] == [scale_and_shift.overload]
    assert nodes[0].meta["val"][0].shape[0] == 3
    assert isinstance(nodes[0].meta["val"][0].shape[1], torch.SymInt)


def test_torch_finds_nothing_wrong_with_it() -> None:
    """torch.library.opcheck: schema, shape function, and behaviour with dynamic sizes."""
    operator = torch.ops.tests_operator.pair.default
    torch.library.opcheck(operator, (torch.randn(2, 3), 2.0), test_utils=("test_schema", "test_faketensor"))
