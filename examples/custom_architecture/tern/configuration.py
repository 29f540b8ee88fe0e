"""What config.json of a Tern says."""

from __future__ import annotations

from transformers import PreTrainedConfig


class TernConfig(PreTrainedConfig):
    """The sizes of a Tern; the defaults are those of `tiny-tern`."""

    model_type = "tern"

    vocab_size: int = 704
    hidden_size: int = 64
    intermediate_size: int = 128
    num_hidden_layers: int = 3
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 16
    max_position_embeddings: int = 512
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-6
    initializer_range: float = 0.02
    tie_word_embeddings: bool = True
