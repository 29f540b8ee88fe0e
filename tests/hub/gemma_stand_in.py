"""A small model of the layout of google/gemma-3-12b-it: a vision tower beside the text model, weights in shards."""

from __future__ import annotations

import shutil
from pathlib import Path

_FILES = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")
_FOR_IMAGES = 64
_VISION = {
    "model_type": "siglip_vision_model",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 16,
}


def write_stand_in(folder: Path, text: Path) -> Path:
    """Write the model into `folder`, its text part as trained in the folder `text`, and return it."""
    # Imported here: torch takes its time, and most tests beside this one have no use for it.
    import torch
    from transformers import (
        AutoConfig,
        AutoModelForCausalLM,
        Gemma3Config,
        Gemma3ForConditionalGeneration,
    )

    config = AutoConfig.from_pretrained(text)
    torch.manual_seed(0)
    # As in the real one, the vocabulary goes on beyond the draft's.
    size = config.vocab_size + _FOR_IMAGES
    whole = Gemma3Config(
        text_config={**config.to_dict(), "vocab_size": size},
        vision_config=_VISION,
        mm_tokens_per_image=4,
        image_token_index=config.vocab_size,
    )
    model = Gemma3ForConditionalGeneration(whole)
    trained = AutoModelForCausalLM.from_pretrained(text, dtype=torch.float32)
    weights = trained.model.state_dict()
    beyond = torch.zeros(_FOR_IMAGES, config.hidden_size)
    weights["embed_tokens.weight"] = torch.cat([weights["embed_tokens.weight"], beyond])
    model.model.language_model.load_state_dict(weights)
    model.tie_weights()
    model.save_pretrained(folder, max_shard_size="950KB")
    for name in _FILES:
        shutil.copy(text / name, folder / name)
    return folder
