"""What repositories of well-known layouts list: files named as such repositories name theirs, with rounded sizes.

Here, a file from `_LARGE` on is in large file storage; git keeps the others itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

from server import Listed

_KB, _MB = 1000, 1_000_000
_LARGE: Final = 4 * _MB


def _shards(stem: str, *sizes: int) -> dict[str, int]:
    count = len(sizes)
    return {f"{stem}-{number:05}-of-{count:05}.safetensors": size for number, size in enumerate(sizes, 1)}


_GEMMA_TOKENIZER: Final = {
    "added_tokens.json": 35,
    "generation_config.json": 215,
    "special_tokens_map.json": 662,
    "tokenizer.json": 33_384_568,
    "tokenizer.model": 4_689_074,
    "tokenizer_config.json": 1_157_007,
}

GEMMA_12B: Final = {  # google/gemma-3-12b-it
    ".gitattributes": 1676,
    "README.md": 24 * _KB,
    "chat_template.json": 1615,
    "config.json": 916,
    **_shards("model", 4_979_902_192, 4_931_296_592, 4_931_296_656, 4_931_296_656, 4_601_000_928),
    "model.safetensors.index.json": 108 * _KB,
    "preprocessor_config.json": 570,
    "processor_config.json": 70,
    **_GEMMA_TOKENIZER,
}

GEMMA_1B: Final = {  # google/gemma-3-1b-it
    ".gitattributes": 1676,
    "README.md": 24 * _KB,
    "config.json": 899,
    "model.safetensors": 1_999_811_208,
    **_GEMMA_TOKENIZER,
}

LLAMA_8B: Final = {  # meta-llama/Llama-3.1-8B
    ".gitattributes": 1519,
    "LICENSE": 7627,
    "README.md": 40 * _KB,
    "USE_POLICY.md": 4691,
    "config.json": 826,
    "generation_config.json": 185,
    **_shards("model", 4_976_698_672, 4_999_802_720, 4_915_916_176, 1_168_138_808),
    "model.safetensors.index.json": 23_950,
    "original/consolidated.00.pth": 16_060_617_592,
    "original/params.json": 199,
    "original/tokenizer.model": 2_183_982,
    "special_tokens_map.json": 73,
    "tokenizer.json": 9_085_658,
    "tokenizer_config.json": 50_500,
}

MISTRAL_7B: Final = {  # mistralai/Mistral-7B-Instruct-v0.3
    ".gitattributes": 1519,
    "README.md": 8 * _KB,
    "config.json": 601,
    "consolidated.safetensors": 14_496_078_512,
    "generation_config.json": 116,
    **_shards("model", 4_949_453_792, 4_999_819_336, 4_546_807_800),
    "model.safetensors.index.json": 23_950,
    "params.json": 202,
    "special_tokens_map.json": 414,
    "tokenizer.json": 1_961_548,
    "tokenizer.model": 587_404,
    "tokenizer.model.v3": 587_404,
    "tokenizer_config.json": 140 * _KB,
}

MINILM: Final = {  # sentence-transformers/all-MiniLM-L6-v2
    ".gitattributes": 1229,
    "1_Pooling/config.json": 190,
    "README.md": 10 * _KB,
    "config.json": 612,
    "config_sentence_transformers.json": 116,
    "data_config.json": 39 * _KB,
    "model.safetensors": 90_868_376,
    "modules.json": 349,
    **{f"onnx/model{suffix}.onnx": 90_400_000 for suffix in ("", "_O1", "_O2", "_O3")},
    "onnx/model_O4.onnx": 45_200_000,
    **{f"onnx/model_{name}.onnx": 23_000_000 for name in ("qint8_arm64", "qint8_avx512", "quint8_avx2")},
    "openvino/openvino_model.bin": 90_300_000,
    "openvino/openvino_model.xml": 211 * _KB,
    "openvino/openvino_model_qint8_quantized.bin": 22_900_000,
    "openvino/openvino_model_qint8_quantized.xml": 368 * _KB,
    "pytorch_model.bin": 90_888_945,
    "rust_model.ot": 90_887_379,
    "sentence_bert_config.json": 53,
    "special_tokens_map.json": 112,
    "tf_model.h5": 91_005_696,
    "tokenizer.json": 466 * _KB,
    "tokenizer_config.json": 350,
    "train_script.py": 13 * _KB,
    "vocab.txt": 232 * _KB,
}

SDXL: Final = {  # stabilityai/stable-diffusion-xl-base-1.0
    ".gitattributes": 1716,
    "LICENSE.md": 14 * _KB,
    "README.md": 8 * _KB,
    "model_index.json": 609,
    "scheduler/scheduler_config.json": 479,
    "sd_xl_base_1.0.safetensors": 6_938_078_334,
    "sd_xl_base_1.0_0.9vae.safetensors": 6_938_078_334,
    "sd_xl_offset_example-lora_1.0.safetensors": 49_553_604,
    "text_encoder/config.json": 565,
    "text_encoder/flax_model.msgpack": 492_245_873,
    "text_encoder/model.fp16.safetensors": 246_144_152,
    "text_encoder/model.onnx": 492_587_457,
    "text_encoder/model.safetensors": 492_265_168,
    "text_encoder/openvino_model.bin": 492_242_672,
    "text_encoder/openvino_model.xml": 1_057_789,
    "text_encoder_2/config.json": 575,
    "text_encoder_2/flax_model.msgpack": 2_778_657_092,
    "text_encoder_2/model.fp16.safetensors": 1_389_382_176,
    "text_encoder_2/model.onnx": 1_041_992,
    "text_encoder_2/model.onnx_data": 2_778_639_360,
    "text_encoder_2/model.safetensors": 2_778_702_264,
    "tokenizer/merges.txt": 524_619,
    "tokenizer/special_tokens_map.json": 472,
    "tokenizer/tokenizer_config.json": 737,
    "tokenizer/vocab.json": 1_059_962,
    "unet/config.json": 1680,
    "unet/diffusion_flax_model.msgpack": 10_269_854_448,
    "unet/diffusion_pytorch_model.fp16.safetensors": 5_135_149_760,
    "unet/diffusion_pytorch_model.safetensors": 10_270_077_736,
    "unet/model.onnx": 7_293_842,
    "unet/model.onnx_data": 10_269_854_720,
    "vae/config.json": 642,
    "vae/diffusion_pytorch_model.fp16.safetensors": 167_335_342,
    "vae/diffusion_pytorch_model.safetensors": 334_643_268,
}

GGUF_8B: Final = {  # bartowski/Meta-Llama-3.1-8B-Instruct-GGUF
    ".gitattributes": 3 * _KB,
    "README.md": 12 * _KB,
    "Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf": 4_920_739_232,
    "Meta-Llama-3.1-8B-Instruct-Q6_K.gguf": 6_596_011_424,
    "Meta-Llama-3.1-8B-Instruct-Q8_0.gguf": 8_540_775_840,
    "Meta-Llama-3.1-8B-Instruct.imatrix": 4_988_157,
}


def stand_in(listing: Mapping[str, int], contents: Mapping[str, bytes] = {}) -> dict[str, bytes | Listed]:
    """Return files of these names and sizes for the test hub: large ones are listed alone, small ones have bytes."""
    files: dict[str, bytes | Listed] = {}
    for path, size in listing.items():
        if size >= _LARGE:
            files[path] = Listed(size, hashlib.sha256(path.encode()).hexdigest())
        else:
            files[path] = b"{}".ljust(min(size, 64))
    return {**files, **contents}
