"""Attention kernels in a trace: sizes stay symbols, and torch sees what is written."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
import triton
from torch._higher_order_ops import triton_kernel_wrap
from torch.export import Dim

from maxbuild.kernels.attention import attend
from maxbuild.targets.devices import device_of
from maxbuild.targets.spelling import parse_target
from maxbuild.targets.virtual import VirtualDriver

DEVICE = device_of(parse_target("cuda:sm_90"))
HEADS, KEY_HEADS, SIZE = 8, 2, 64


class Attention(torch.nn.Module):
    """A call as a decoder makes it: heads are transposed views of what was projected."""

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        key_cache: torch.Tensor,
        value_cache: torch.Tensor,
        positions: torch.Tensor,
        key_positions: torch.Tensor,
    ) -> torch.Tensor:
        """Attend with a window."""
        query, key, value = (tensor.transpose(1, 2) for tensor in (query, key, value))
        caches = (key_cache, value_cache)
        return attend(query, key, value, *caches, positions, key_positions, 0.125, 1000, 0.0, None, device=DEVICE)


@pytest.fixture(scope="module")
def graph() -> torch.fx.Graph:
    """Return a trace of one call, all of its sizes dynamic."""
    batch, sequence, cache, keys = (Dim(name, min=1) for name in ("batch", "sequence", "cache", "keys"))

    def empty(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    new = {0: batch, 1: sequence}
    cached = {0: batch, 2: cache}
    tensors = (
        empty(2, 64, HEADS, SIZE),
        empty(2, 64, KEY_HEADS, SIZE),
        empty(2, 64, KEY_HEADS, SIZE),
        empty(2, KEY_HEADS, 512, SIZE),
        empty(2, KEY_HEADS, 512, SIZE),
        empty(2, 64, dtype=torch.int64),
        empty(256, dtype=torch.int64),
    )
    shapes = (new, new, new, cached, cached, new, {0: keys})
    return torch.export.export(Attention(), tensors, dynamic_shapes=shapes, strict=False).graph


def grids(graph: torch.fx.Graph, batch: int, sequence: int, keys: int) -> dict[str, tuple[int, ...]]:
    """Return each kernel's grid for a call of these sizes, by the trace's own expressions."""
    inputs = [node.meta["val"] for node in graph.nodes if node.op == "placeholder"]
    symbols = (inputs[0].shape[0], inputs[0].shape[1], inputs[6].shape[0])
    values = {symbol.node.expr: size for symbol, size in zip(symbols, (batch, sequence, keys), strict=True)}

    def value(size: object) -> int:
        size = size.meta["val"] if isinstance(size, torch.fx.Node) else size
        return int(size.node.expr.subs(values)) if isinstance(size, torch.SymInt) else int(size)

    return {
        triton_kernel_wrap.kernel_side_table.get_kernel(node.kwargs["kernel_idx"]).fn.__name__: tuple(
            value(size) for size in node.kwargs["grid"][0]
        )
        for node in graph.nodes
        if node.target is triton_kernel_wrap.triton_kernel_wrapper_mutation
    }


@pytest.mark.parametrize("sequence", [1, 2, 16])
def test_few_new_tokens_launch_the_decode_form(graph: torch.fx.Graph, sequence: int) -> None:
    """Traced with 64 tokens, the graph's grids are right for few: the cache of one row is split over the device."""
    found = grids(graph, 1, sequence, 4096)
    blocks = math.ceil(sequence * HEADS // KEY_HEADS / 16)
    # The window lets a query see 1000 keys and 16 new ones, which are 32 blocks of 32.
    assert found["attention_decode"] == (blocks * 32, KEY_HEADS, 1)
    assert math.prod(found["attention_merge"]) == sequence * HEADS
    assert 0 in found["attention_prefill"]
    assert 0 in found["attention_write"]


@pytest.mark.parametrize("sequence", [17, 64, 1000])
def test_many_new_tokens_launch_the_prefill_form(graph: torch.fx.Graph, sequence: int) -> None:
    """The same graph launches the form for many from 17 tokens on, and nothing of the form for few."""
    found = grids(graph, 3, sequence, 4096)
    assert found["attention_prefill"] == (HEADS, math.ceil(sequence / 128), 3)
    assert found["attention_write"] == (KEY_HEADS, math.ceil(sequence / 16), 3)
    assert 0 in found["attention_decode"]
    assert 0 in found["attention_merge"]


def test_a_large_batch_is_not_split(graph: torch.fx.Graph) -> None:
    """Rows enough to fill the device take one program each, which writes the output itself: nothing is merged."""
    found = grids(graph, 500, 1, 4096)
    assert found["attention_decode"] == (1, KEY_HEADS, 500)
    assert 0 in found["attention_merge"]


@pytest.fixture
def virtual_driver() -> Iterator[None]:
    """Let Triton compile for the device, which is not there."""
    # The driver in use is private. `reset_active` would look for one of this host's, and fail where there is none.
    before = triton.runtime.driver._active
    triton.runtime.driver.set_active(VirtualDriver(DEVICE))
    yield
    triton.runtime.driver._active = before


@pytest.mark.usefixtures("virtual_driver")
def test_torch_sees_what_each_kernel_writes(graph: torch.fx.Graph) -> None:
    """Caches count as written by both forms, and inputs by none: Inductor orders and copies by that."""
    written = {}
    for node in graph.nodes:
        if node.target is triton_kernel_wrap.triton_kernel_wrapper_mutation:
            values = {
                name: getattr(value, "meta", {}).get("val", value) for name, value in node.kwargs["kwargs"].items()
            }
            index, constants = node.kwargs["kernel_idx"], node.kwargs["constant_args_idx"]
            name = triton_kernel_wrap.kernel_side_table.get_kernel(index).fn.__name__
            written[name] = set(triton_kernel_wrap.get_mutated_tensors(index, constants, values, {}))
    assert written == {
        "attention_write": {"key_cache", "value_cache"},
        "attention_prefill": {"output"},
        "attention_decode": {"output", "partial", "logarithms", "key_cache", "value_cache"},
        "attention_merge": {"output"},
    }
