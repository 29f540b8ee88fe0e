"""Move an exported graph from the meta device to a GPU that is not there.

Invariant: only devices change; shapes, strides, dtypes and symbols stay. Exporting on a fake `cuda` tensor right away
would ask CUDA for a device, and a torch without CUDA cannot answer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, in_kernel_invocation_manager
from torch.utils._pytree import tree_map


def retarget(exported: torch.export.ExportedProgram, device: torch.device) -> None:
    """Put all that `exported`, a program on the meta device, computes and is given onto `device`, without data."""
    mode = next(node.meta["val"].fake_mode for node in exported.graph.nodes if node.op == "placeholder")
    for module in exported.graph_module.modules():
        if isinstance(module, fx.GraphModule):
            for node in module.graph.nodes:
                _retarget_node(node, device, mode)
            module.recompile()
    exported.example_inputs = _on_device(exported.example_inputs, device, mode)


def _retarget_node(node: fx.Node, device: torch.device, mode: FakeTensorMode) -> None:
    def moved(argument: Any) -> Any:
        return device if isinstance(argument, torch.device) else argument

    node.args = fx.node.map_aggregate(node.args, moved)
    node.kwargs = fx.node.map_aggregate(node.kwargs, moved)
    if "val" in node.meta:
        node.meta["val"] = _on_device(node.meta["val"], device, mode)


def _on_device(values: Any, device: torch.device, mode: FakeTensorMode) -> Any:
    """Return `values`, tensors in any nesting, as fake tensors on `device`."""

    def moved(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        with in_kernel_invocation_manager(mode):  # a tensor without data that the mode does not make fake by itself
            bare = torch.empty_strided(value.size(), value.stride(), dtype=value.dtype, device="meta")
        return FakeTensor(mode, bare, device)

    return tree_map(moved, values)
