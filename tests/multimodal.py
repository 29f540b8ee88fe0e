"""A tiny model laid out like google/gemma-3-12b-it: a language model and a tower for images, saved as that one is."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, PreTrainedModel

# As deep as the language model: lists of layers cannot be told apart by their length.
_LAYERS = 2


def make_multimodal_config() -> Gemma3Config:
    """Return a new config with text and vision parts."""
    return Gemma3Config(
        text_config={
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": _LAYERS,
            "layer_types": ["sliding_attention", "full_attention"],
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "vocab_size": 256,
            "max_position_embeddings": 512,
            "sliding_window": 8,
            "query_pre_attn_scalar": 16,
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": _LAYERS,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
        },
        mm_tokens_per_image=4,
        image_token_index=255,
        boi_token_index=253,
        eoi_token_index=254,
    )


def save_multimodal_model(folder: Path, shard_size: str = "5GB") -> PreTrainedModel:
    """Save a random model into `folder`, its tensors under the names of checkpoints (`language_model.model.…`)."""
    torch.manual_seed(0)
    model: PreTrainedModel = Gemma3ForConditionalGeneration._from_config(
        make_multimodal_config(), attn_implementation="eager"
    ).eval()
    model.save_pretrained(folder, max_shard_size=shard_size)
    return model
