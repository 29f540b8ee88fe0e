"""Tern: a decoder with grouped-query attention, rotary positions and a squared ReLU (So et al., arXiv:2109.08668).

Two things make it a custom architecture that maxbuild can cut into regions: it attends through transformers' attention
interface, with a mask made by `create_causal_mask`, and its layers stand in one `ModuleList`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutput
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .configuration import TernConfig
from .operators import add_rms_norm


class TernSumNorm(nn.Module):
    """RMSNorm (Zhang and Sennrich, arXiv:1910.07467) of the sum of what comes in and what came before it."""

    def __init__(self, config: TernConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config.hidden_size))
        self.eps = config.rms_norm_eps

    def forward(self, update: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        """Return (normalized sum, sum); all are (batch, sequence, hidden)."""
        normalized, total = add_rms_norm(update, residual, self.weight, self.eps)
        return normalized, total


class TernAttention(nn.Module):
    """Attention of `num_attention_heads` queries over `num_key_value_heads` keys and values."""

    def __init__(self, config: TernConfig, layer_idx: int) -> None:
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.head_dim = config.head_dim
        self.num_key_value_groups = config.num_attention_heads // config.num_key_value_heads
        self.scaling = config.head_dim**-0.5
        queries, keys = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, queries, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, keys, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, keys, bias=False)
        self.o_proj = nn.Linear(queries, config.hidden_size, bias=False)

    def forward(self, hidden: Tensor, rotation: tuple[Tensor, Tensor], attention_mask: Any) -> Tensor:
        """Attend over hidden states (batch, sequence, hidden) and return as many."""
        heads = (*hidden.shape[:-1], -1, self.head_dim)
        query, key, value = (
            project(hidden).view(heads).transpose(1, 2) for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        attend: Callable[..., tuple[Tensor, Any]] = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention
        )
        attended, _ = attend(
            self, rotated(query, rotation), rotated(key, rotation), value, attention_mask, scaling=self.scaling
        )
        return self.o_proj(attended.reshape(*hidden.shape[:-1], -1))


class TernLayer(nn.Module):
    """Attention, then a feed-forward network with a squared ReLU, each after a norm."""

    def __init__(self, config: TernConfig, layer_idx: int) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.attention = TernAttention(config, layer_idx)
        self.mlp_norm = TernSumNorm(config)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, hidden: Tensor, rotation: tuple[Tensor, Tensor], attention_mask: Any) -> Tensor:
        """Turn hidden states (batch, sequence, hidden) into the next layer's."""
        attended = self.attention(self.attention_norm(hidden), rotation, attention_mask)
        normalized, hidden = self.mlp_norm(attended, hidden)
        return hidden + self.down_proj(torch.relu(self.up_proj(normalized)).square())


class TernPreTrainedModel(PreTrainedModel):
    """What transformers has to know of a Tern."""

    config_class = TernConfig
    base_model_prefix = "model"
    _supports_attention_backend = True
    _supports_sdpa = True

    def _init_weights(self, module: nn.Module) -> None:
        """Fill what no checkpoint holds too: `from_pretrained` makes models without data."""
        super()._init_weights(module)
        if isinstance(module, TernModel):
            init.copy_(module.frequencies, rotary_frequencies(self.config))


class TernModel(TernPreTrainedModel):
    """The decoder without its output embedding."""

    def __init__(self, config: TernConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(TernLayer(config, index) for index in range(config.num_hidden_layers))
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.register_buffer("frequencies", rotary_frequencies(config), persistent=False)
        self.post_init()

    def forward(self, input_ids: Tensor, position_ids: Tensor | None = None, **_: Any) -> BaseModelOutput:
        """Return hidden states (batch, sequence, hidden) of tokens (batch, sequence)."""
        hidden = self.embed_tokens(input_ids)
        if position_ids is None:
            position_ids = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
        mask = create_causal_mask(self.config, hidden, None, past_key_values=None, position_ids=position_ids)
        angles = position_ids[..., None].float() * self.frequencies
        rotation = angles.cos()[:, None].to(hidden.dtype), angles.sin()[:, None].to(hidden.dtype)
        for layer in self.layers:
            hidden = layer(hidden, rotation, mask)
        return BaseModelOutput(last_hidden_state=self.norm(hidden))


class TernForCausalLM(TernPreTrainedModel):
    """A Tern that gives logits; the output embedding is tied to that of the input."""

    _tied_weights_keys: ClassVar = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config: TernConfig) -> None:
        super().__init__(config)
        self.model = TernModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(self, input_ids: Tensor, position_ids: Tensor | None = None, **arguments: Any) -> CausalLMOutput:
        """Return logits (batch, sequence, vocabulary) of tokens (batch, sequence)."""
        hidden = self.model(input_ids, position_ids, **arguments).last_hidden_state
        return CausalLMOutput(logits=self.lm_head(hidden))


def rotary_frequencies(config: TernConfig) -> Tensor:
    """Return by how much each pair of numbers turns from one position to the next (Su et al., arXiv:2104.09864)."""
    return config.rope_theta ** -(torch.arange(0, config.head_dim, 2).float() / config.head_dim)


def rotated(heads: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate (batch, heads, sequence, size) by cosines and sines (batch, 1, sequence, size / 2)."""
    cosine, sine = rotation
    first, second = heads.chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)


def eager_attention(
    module: TernAttention, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scaling: float
) -> tuple[Tensor, None]:
    """Attend plainly; transformers' interface says which function is asked in place of this one."""
    key, value = (tensor.repeat_interleave(module.num_key_value_groups, dim=1) for tensor in (key, value))
    scores = query @ key.transpose(-1, -2) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype)
    return (weights @ value).transpose(1, 2), None
