"""Tiny random models of the decoder families, and how a program over regions is compared with eager transformers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from maxbuild.models.outline import Outline
from maxbuild.runtime.model import Model

_COMMON: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 256,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_MULTI_HEAD = {name: value for name, value in _COMMON.items() if name not in {"num_key_value_heads", "head_dim"}}
_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
_DEEPSEEK = (
    _MULTI_HEAD
    | _EXPERTS
    | {"num_key_value_heads": 4, "n_routed_experts": 8, "n_group": 2, "topk_group": 1, "kv_lora_rank": 16}
    | {"q_lora_rank": 24, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 12, "n_shared_experts": 1}
    | {"first_k_dense_replace": 1}
)

FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "llama": _COMMON,
    "mistral": _COMMON | {"sliding_window": 8},
    "qwen2": _COMMON,
    "qwen3": _COMMON,
    "qwen3_moe": _COMMON | _EXPERTS | {"num_experts": 8, "mlp_only_layers": [1]},
    "mixtral": _COMMON | {"num_local_experts": 4},
    "gemma2": _COMMON | {"sliding_window": 8, "query_pre_attn_scalar": 16},
    "gemma3_text": _COMMON | {"sliding_window": 8, "query_pre_attn_scalar": 16, "num_hidden_layers": 6},
    "phi3": _COMMON,
    "olmo2": _COMMON,
    "granite": _COMMON | {"attention_multiplier": 0.3, "residual_multiplier": 0.5, "logits_scaling": 2.0},
    "cohere2": _COMMON | {"sliding_window": 8},
    "smollm3": _COMMON | {"no_rope_layer_interval": 2},
    "glm4": _COMMON,
    "gpt2": {"n_embd": 64, "n_layer": 4, "n_head": 4, "vocab_size": 256, "n_positions": 512, "bos_token_id": 1}
    | {"eos_token_id": 2},
    "gpt_neox": _MULTI_HEAD,
    "opt": _MULTI_HEAD | {"ffn_dim": 128, "word_embed_proj_dim": 64},
    "deepseek_v2": _DEEPSEEK,
    "deepseek_v3": _DEEPSEEK,
    "glm4_moe": _COMMON | _EXPERTS | {"n_routed_experts": 8, "n_group": 1, "topk_group": 1},
    "qwen2_moe": _COMMON | _EXPERTS | {"num_experts": 8, "shared_expert_intermediate_size": 32},
    "gpt_oss": _COMMON | {"sliding_window": 8, "num_local_experts": 4, "num_experts_per_tok": 2},
}
"""Options of each family's config. Windows are shorter than the rows of the comparison, so that they matter."""


def make_config(family: str, **options: Any) -> PreTrainedConfig:
    """Return a new config of `family`, tiny."""
    return AutoConfig.for_model(family, **{**FAMILIES[family], **options})


def make_eager_model(config: PreTrainedConfig) -> PreTrainedModel:
    """Return a random model with transformers' own attention, its norms and biases moved off ones and zeros."""
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def bind(outlined: Outline, eager: PreTrainedModel, regions: Mapping[str, Any] | None = None) -> Model:
    """Return a runnable model of the outline with the eager model's weights; regions run uncompiled unless given."""
    weights = {**dict(eager.named_parameters()), **dict(eager.named_buffers())}
    modules = {name: as_region(graph.to_module(torch.device("cpu"))) for name, graph in outlined.regions.items()}
    return Model(outlined.program, regions or modules, weights)


def as_region(module: Callable[..., Sequence[Tensor]]) -> Callable[[list[Tensor]], Sequence[Tensor]]:
    """Return a module as the runtime calls regions: with one list."""
    return lambda inputs: module(*inputs)


@torch.inference_mode()
def worst_error(model: Model, eager: PreTrainedModel, lengths: Sequence[int], steps: int = 4) -> float:
    """Return the largest difference of logits over a prefill of rows of these lengths and some decode steps."""
    rows, longest = len(lengths), max(lengths)
    tokens = torch.randint(0, 256, (rows, longest + steps), generator=torch.Generator().manual_seed(1))
    caches = model.caches(rows, 64)
    last = torch.tensor([[length - 1] for length in lengths])
    got = [model.forward(tokens[:, :longest], torch.arange(longest).expand(rows, -1), last, caches, longest)]
    for step in range(steps):
        positions = torch.tensor([[length + step] for length in lengths])
        newest = tokens.gather(1, positions)
        keys = int(positions.max()) + 1
        got.append(model.forward(newest, positions, torch.zeros_like(positions), caches, keys))
    ours = torch.cat(got, dim=1)
    return max(
        (ours[row] - eager(tokens[row : row + 1, : length + steps], use_cache=False).logits[0, length - 1 :])
        .abs()
        .max()
        .item()
        for row, length in enumerate(lengths)
    )
