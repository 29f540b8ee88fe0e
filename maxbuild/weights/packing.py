"""Decide for every tensor of a model where its bytes come from: a file as it is, a cast, or transformers' own loading.

Invariant: the tensors are those that transformers' `from_pretrained` would give, bit for bit, and a tensor that a file
holds as it is wanted is never copied.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.conversion_mapping import get_checkpoint_conversion_mapping

from maxbuild.errors import WeightsError
from maxbuild.models.graph import dtype_name
from maxbuild.weights.safetensors import StoredTensor, read_header

_SHARD_BYTES = 2 << 30
"""Packed tensors are written to files of about this size, so that packing needs no more memory than that."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor lies: the file, and its name in that file."""

    file: str
    tensor: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """The tensors that a model computes with, each under its one name; which of them checkpoints hold; other names."""

    tensors: Mapping[str, Tensor]
    stored: frozenset[str]
    aliases: Mapping[str, str]

    @classmethod
    def of(cls, model: nn.Module) -> Wanted:
        """Collect them from a model whose buffers have values and whose parameters need none."""
        first: dict[int, str] = {}
        tensors, aliases = {}, {}
        named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
        for name, tensor in named:
            original = first.setdefault(id(tensor), name)
            if original == name:
                tensors[name] = tensor
            else:
                aliases[name] = original
        # What a state dict holds, a checkpoint holds: parameters, and the buffers that are persistent.
        return cls(tensors, frozenset(model.state_dict()) & tensors.keys(), aliases)


def pack(
    model: PreTrainedModel, files: Mapping[str, Path], folder: Path, output: Path, *, trust_remote_code: bool
) -> tuple[dict[str, Place], dict[str, Path]]:
    """Find or make every tensor that `model` computes with.

    model: parameters of no value, buffers with theirs. files: the weight files by name. folder: holds config.json and
    the weight files, for transformers to load from where names do not match (an index is written into it). output: a
    folder for new files.
    Return the place of each tensor, and the files that places name. Raise WeightsError where tensors are missing, too
    many, or of another shape.
    """
    wanted = Wanted.of(model)
    stored = _read_headers(files)
    _refuse_untied(wanted, stored, files)
    if _needs_conversion(model, wanted, stored):
        tensors: Iterator[tuple[str, Tensor]] = _converted(
            model, wanted, stored, folder, trust_remote_code=trust_remote_code
        )
        places: dict[str, Place] = {}
    else:
        _check_shapes(wanted, stored)
        places = {
            name: Place(stored[name][0], name)
            for name in wanted.stored
            if stored[name][1].dtype == dtype_name(wanted.tensors[name].dtype)
        }
        tensors = _cast(wanted, [name for name in sorted(wanted.stored) if name not in places], files, stored)
    used = {place.file: files[place.file] for place in places.values()}
    for name, place, path in _write(tensors, output, "packed"):
        places[name], used[place.file] = place, path
    for name, place, path in _write(_buffers(wanted, places), output, "derived"):
        places[name], used[place.file] = place, path
    return dict(sorted(places.items())), used


def _read_headers(files: Mapping[str, Path]) -> dict[str, tuple[str, StoredTensor]]:
    stored: dict[str, tuple[str, StoredTensor]] = {}
    for file, path in sorted(files.items()):
        for name, tensor in read_header(path, file).items():
            if name in stored:
                raise WeightsError(f"tensor `{name}` is in two weight files, `{stored[name][0]}` and `{file}`")
            stored[name] = (file, tensor)
    return stored


def _needs_conversion(model: PreTrainedModel, wanted: Wanted, stored: Mapping[str, tuple[str, StoredTensor]]) -> bool:
    """Tell whether transformers may change names or contents while it loads these tensors into this model."""
    known = wanted.tensors.keys() | wanted.aliases.keys()
    return (
        bool(get_checkpoint_conversion_mapping(model.config.model_type))
        or not wanted.stored <= stored.keys()
        or not stored.keys() <= known
    )


def _check_shapes(wanted: Wanted, stored: Mapping[str, tuple[str, StoredTensor]]) -> None:
    wrong = [
        f"`{name}` has shape {list(stored[name][1].shape)}, the config makes it {list(wanted.tensors[name].shape)}"
        for name in sorted(wanted.stored)
        if stored[name][1].shape != tuple(wanted.tensors[name].shape)
    ]
    if wrong:
        raise _disagreement(wrong, "has another shape than config.json makes it")


def _cast(
    wanted: Wanted, names: Sequence[str], files: Mapping[str, Path], stored: Mapping[str, tuple[str, StoredTensor]]
) -> Iterator[tuple[str, Tensor]]:
    """Read tensors one by one, each in the dtype that the model wants."""
    for file in sorted({stored[name][0] for name in names}):
        with safe_open(files[file], framework="pt") as reader:
            for name in (name for name in names if stored[name][0] == file):
                yield name, reader.get_tensor(name).to(wanted.tensors[name].dtype)


def _refuse_untied(wanted: Wanted, stored: Mapping[str, tuple[str, StoredTensor]], files: Mapping[str, Path]) -> None:
    """Raise WeightsError where tensors that config.json ties are stored with different bytes: which one is meant?"""
    for alias, original in wanted.aliases.items():
        if alias in stored and original in stored and _bytes(stored[alias], files) != _bytes(stored[original], files):
            raise WeightsError(
                f"config.json ties `{alias}` to `{original}`, but the weight files hold two different tensors",
                hint="if both are meant, set `tie_word_embeddings` to false in config.json",
            )


def _bytes(place: tuple[str, StoredTensor], files: Mapping[str, Path]) -> bytes:
    file, tensor = place
    with files[file].open("rb") as reader:
        reader.seek(tensor.start)
        return reader.read(tensor.end - tensor.start)


def _write_index(stored: Mapping[str, tuple[str, StoredTensor]], folder: Path) -> None:
    """Write the index by which transformers finds tensors in files that are not one `model.safetensors`."""
    if not (folder / "model.safetensors").exists():
        weight_map = {name: file for name, (file, _) in stored.items()}
        index = {"metadata": {}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _converted(
    model: PreTrainedModel,
    wanted: Wanted,
    stored: Mapping[str, tuple[str, StoredTensor]],
    folder: Path,
    *,
    trust_remote_code: bool,
) -> Iterator[tuple[str, Tensor]]:
    """Let transformers load the checkpoint in its own way, and take the tensors from the model that it makes."""
    _write_index(stored, folder)
    try:
        loading: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=model.dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
        )
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise WeightsError("transformers could not load the weight files", causes=[first]) from error
    loaded, report = loading
    _check_report(report)
    state = {**dict(loaded.named_parameters()), **dict(loaded.named_buffers())}
    for name in sorted(wanted.stored):
        yield name, state[name].detach().to(wanted.tensors[name].dtype)


def _check_report(report: Mapping[str, Any]) -> None:
    missing, unexpected = sorted(report["missing_keys"]), sorted(report["unexpected_keys"])
    if missing:
        raise _disagreement([f"`{name}` is missing" for name in missing], "is in no weight file")
    if unexpected:
        raise _disagreement([f"`{name}` is too many" for name in unexpected], "is unknown to the model")
    mismatched = report["mismatched_keys"]
    if mismatched:
        lines = [
            f"`{name}` has shape {list(is_)}, the config makes it {list(should)}" for name, is_, should in mismatched
        ]
        raise _disagreement(sorted(lines), "has another shape than config.json makes it")


def _disagreement(lines: Sequence[str], what: str) -> WeightsError:
    shown = list(lines[:5]) + ([f"and {len(lines) - 5} more"] if len(lines) > 5 else [])
    subject = f"a tensor {what}" if len(lines) == 1 else f"{len(lines)} tensors each {what}"
    return WeightsError(
        f"the weight files do not fit config.json: {subject}",
        causes=shown,
        hint="are config.json and the weight files from the same model and revision?",
    )


def _buffers(wanted: Wanted, places: Mapping[str, Place]) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors that are in no checkpoint because the config determines them, such as rotary frequencies."""
    for name, tensor in sorted(wanted.tensors.items()):
        if name not in places:
            if tensor.is_meta:
                raise WeightsError(f"tensor `{name}` is in no weight file and cannot be computed from config.json")
            yield name, tensor.detach()


def _write(tensors: Iterator[tuple[str, Tensor]], output: Path, stem: str) -> Iterator[tuple[str, Place, Path]]:
    """Write tensors to files of bounded size and yield where each went."""
    shard: dict[str, Tensor] = {}
    number = 0

    def flush() -> Iterator[tuple[str, Place, Path]]:
        file = f"{stem}-{number:05d}.safetensors"
        output.mkdir(parents=True, exist_ok=True)
        save_file(shard, output / file)
        yield from ((name, Place(file, name), output / file) for name in shard)

    for name, tensor in tensors:
        shard[name] = tensor.contiguous().clone() if _shares_memory(tensor, shard) else tensor.contiguous()
        if sum(kept.nbytes for kept in shard.values()) >= _SHARD_BYTES:
            yield from flush()
            shard, number = {}, number + 1
    if shard:
        yield from flush()


def _shares_memory(tensor: Tensor, shard: Mapping[str, Tensor]) -> bool:
    pointer = tensor.untyped_storage().data_ptr()
    return any(kept.untyped_storage().data_ptr() == pointer for kept in shard.values())
