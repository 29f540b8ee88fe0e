"""The hook by which transformers' mixtures of experts call the operator of ours.

Invariant: work follows the experts that tokens are routed to; a trace neither unrolls experts nor fixes which are hit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from maxbuild.errors import UnsupportedModel
from maxbuild.models.operators import expert_matmul

IMPLEMENTATION = "maxbuild"
"""The name under which transformers knows these experts (`config._experts_implementation`)."""


def _experts_function(experts: Any, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
    """Speak transformers' experts interface.

    hidden_states: (tokens, hidden). top_k_index, top_k_weights: (tokens, k). Returns (tokens, hidden).
    """
    if experts.has_post_expert_norm:
        raise UnsupportedModel(f"`{type(experts).__name__}` normalises each expert's output, which is not supported")
    tokens, chosen = top_k_index.shape
    expert_of_row, order = torch.sort(top_k_index.reshape(-1), stable=True)
    numbers = torch.arange(experts.num_experts, device=hidden_states.device)
    offsets = (expert_of_row[None, :] <= numbers[:, None]).sum(dim=1).to(torch.int32)

    rows = hidden_states[order // chosen]
    first = "gate_up_proj" if experts.has_gate else "up_proj"
    rows = _linear(experts, first, rows, expert_of_row, offsets)
    rows = experts._apply_gate(rows) if experts.has_gate else experts.act_fn(rows)
    rows = _linear(experts, "down_proj", rows, expert_of_row, offsets)

    weighted = rows * top_k_weights.reshape(-1)[order][:, None]
    in_token_order: Tensor = weighted[torch.argsort(order)]
    return in_token_order.view(tokens, chosen, -1).sum(dim=1).to(hidden_states.dtype)


def _linear(experts: Any, name: str, rows: Tensor, expert_of_row: Tensor, offsets: Tensor) -> Tensor:
    weights = getattr(experts, name)
    matrices = weights if experts.is_transposed else weights.transpose(1, 2)
    product: Tensor = expert_matmul(rows, matrices, offsets, None, None)
    return product + getattr(experts, f"{name}_bias")[expert_of_row] if experts.has_bias else product


ALL_EXPERTS_FUNCTIONS.register(IMPLEMENTATION, _experts_function)


def use_expert_operator(model: PreTrainedModel) -> None:
    """Make `model`'s experts, if it has any, call the operator."""
    experts: list[Any] = [module for module in model.modules() if hasattr(module, "has_post_expert_norm")]
    for module in experts:
        module.config._experts_implementation = IMPLEMENTATION
