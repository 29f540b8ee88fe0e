"""Headers of safetensors files, checked to the last byte and read without loading any tensor.

Invariant: a header that this module returns describes exactly the bytes that follow it. The format:
https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import itertools
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maxbuild.errors import WeightsError

_LENGTH_BYTES = 8
_LONGEST_HEADER = 100_000_000

# Bytes per element of the format's number types.
_ELEMENT_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip

_TORCH_NAMES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor of a file: its torch dtype by name, its shape, and the half-open span of its bytes in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_header(path: Path, name: str | None = None) -> dict[str, StoredTensor]:
    """Return the tensors of a safetensors file by name.

    name: what to call the file in errors (default: its own name). Raise WeightsError where the file is truncated,
    longer than it says, or not safetensors at all.
    """
    title = name or path.name
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length_field = file.read(_LENGTH_BYTES)
            length = struct.unpack("<Q", length_field)[0] if len(length_field) == _LENGTH_BYTES else None
            if length is None or length > min(_LONGEST_HEADER, size - _LENGTH_BYTES):
                raise _broken(title, f"{size} bytes do not begin with a safetensors header")
            header = json.loads(file.read(length))
    except OSError as error:
        raise WeightsError(f"could not read weight file `{title}`", causes=[str(error)]) from error
    except ValueError as error:
        raise _broken(title, "its header is not JSON") from error
    tensors = _parse(header, _LENGTH_BYTES + length, title)
    _check_spans(tensors, _LENGTH_BYTES + length, size, title)
    return tensors


def _parse(header: Any, data_start: int, title: str) -> dict[str, StoredTensor]:
    if not isinstance(header, dict):
        raise _broken(title, "its header is not a JSON object")
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        try:
            dtype, shape, (start, end) = entry["dtype"], tuple(map(int, entry["shape"])), entry["data_offsets"]
            expected = math.prod(shape) * _ELEMENT_BYTES[dtype]
        except (KeyError, TypeError, ValueError) as error:
            raise _broken(title, f"its header describes tensor `{name}` in no known way") from error
        if end - start != expected:
            raise _broken(title, f"tensor `{name}` has {end - start} bytes, its shape needs {expected}")
        tensors[name] = StoredTensor(_TORCH_NAMES[dtype], shape, data_start + start, data_start + end)
    return tensors


def _check_spans(tensors: Mapping[str, StoredTensor], data_start: int, size: int, title: str) -> None:
    ordered = sorted(tensors.values(), key=lambda tensor: (tensor.start, tensor.end))
    end = max((tensor.end for tensor in ordered), default=data_start)
    if end > size:
        raise _broken(title, f"it has {size} bytes, its header speaks of {end}: the file is truncated")
    if end < size:
        raise _broken(title, f"it has {size} bytes, its header speaks of {end}")
    if any(before.end > after.start for before, after in itertools.pairwise(ordered)):
        raise _broken(title, "two of its tensors overlap")


def _broken(title: str, cause: str) -> WeightsError:
    return WeightsError(
        f"weight file `{title}` is damaged", causes=[cause], hint="fetch the file again; the copy at hand is incomplete"
    )
