"""What the name of a file says of it: its format, and for weights the layout, the variant and the shard.

The naming is that of transformers (`SAFE_WEIGHTS_NAME`, `_add_variant` in modeling_utils.py) and of diffusers
(`_add_variant`, `SPLIT`); it is all that is known of a file before it is downloaded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

SAFETENSORS: Final = "safetensors"
PICKLE: Final = "PyTorch pickles"
GGUF: Final = "GGUF"

_SUFFIXES: Final = {
    ".safetensors": SAFETENSORS,
    ".bin": PICKLE, ".pt": PICKLE, ".pth": PICKLE, ".ckpt": PICKLE, ".pkl": PICKLE,
    ".gguf": GGUF, ".ggml": GGUF,
    ".onnx": "ONNX", ".onnx_data": "ONNX", ".ort": "ONNX",
    ".h5": "TensorFlow", ".tflite": "TensorFlow", ".pb": "TensorFlow",
    ".msgpack": "Flax",
    ".ot": "Rust", ".nemo": "NeMo", ".llamafile": "llamafile",
    ".mlmodel": "Core ML", ".mlpackage": "Core ML",
}  # fmt: skip

VARIANTS: Final = {
    "fp32": "float32", "float32": "float32",
    "bf16": "bfloat16", "bfloat16": "bfloat16",
    "fp16": "float16", "float16": "float16",
    "fp8": None, "fp8_e4m3fn": None, "fp8_e5m2": None, "int8": None, "8bit": None, "4bit": None,
    "ema": None, "non_ema": None,
}  # fmt: skip
"""Words between stem and suffix that name a variant, each with the encoding that its weights are in."""

_VARIANT = "|".join(VARIANTS)
# `model.fp16-00001-of-00002.safetensors`; diffusers wrote `model-00001-of-00002.fp16.safetensors` once.
_WEIGHTS = re.compile(
    rf"(?P<stem>.+?)(?:\.(?P<variant>{_VARIANT}))?(?:-(?P<number>\d+)-of-(?P<count>\d+))?"
    rf"(?:\.(?P<late_variant>{_VARIANT}))?\.safetensors"
)
_INDEX = re.compile(rf"(?P<stem>.+?)\.safetensors\.index(?:\.(?P<variant>{_VARIANT}))?\.json")


@dataclass(frozen=True, slots=True)
class Layout:
    """What all files of one set of weights share: `model`, no variant, 5 shards, say; `shards` is 0 for one file."""

    stem: str
    variant: str | None
    shards: int


def format_of(path: str) -> str | None:
    """Return the format of the weights in the file `path`, None for a file that is no weights."""
    parts = PurePosixPath(path)
    # OpenVINO's weights are `.bin` beside an `.xml`; they are no pickle.
    if parts.suffix in {".bin", ".xml"} and "openvino" in path.lower():
        return "OpenVINO"
    if any(PurePosixPath(part).suffix == ".mlpackage" for part in parts.parts):
        return "Core ML"
    return _SUFFIXES.get(parts.suffix.lower())


def layout_of(name: str) -> tuple[Layout, int] | None:
    """Return the set that the safetensors file `name` belongs to, and its number there; None for another file."""
    found = _WEIGHTS.fullmatch(name)
    if found is None:
        return None
    variant = found["variant"] or found["late_variant"]
    return Layout(found["stem"], variant, int(found["count"] or 0)), int(found["number"] or 0)


def index_layout(name: str) -> tuple[str, str | None] | None:
    """Return stem and variant of the set that the index `name` lists; None for a file that is no index."""
    found = _INDEX.fullmatch(name)
    return None if found is None else (found["stem"], found["variant"])
