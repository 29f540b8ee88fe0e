"""Decide for every tensor of a model where its bytes come from: a file as it is, a cast, or transformers' own loading.

Invariant: the tensors are those that transformers' `from_pretrained` would give, bit for bit, and a tensor that a file
holds as it is wanted is never copied.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_checkpoint_conversion_mapping

from maxbuild.errors import WeightsError
from maxbuild.models.architecture import auto_class, build_complete_model
from maxbuild.models.graph import dtype_name
from maxbuild.weights.names import names_in_files
from maxbuild.weights.safetensors import StoredTensor, read_header

_SHARD_BYTES = 2 << 30
"""Packed tensors are written to files of about this size, so that packing needs no more memory than that."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor lies: the file, and its name in that file."""

    file: str
    tensor: str


class _Stored(NamedTuple):
    """A tensor as a weight file holds it: the file, its name there, and what it is."""

    file: str
    name: str
    tensor: StoredTensor


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
    model: PreTrainedModel,
    files: Mapping[str, Path],
    folder: Path,
    output: Path,
    *,
    trust_remote_code: bool,
    embedding: bool = False,
) -> tuple[dict[str, Place], dict[str, Path]]:
    """Find or make every tensor that `model` computes with.

    model: parameters of no value, buffers with theirs. files: the weight files by name. folder: holds config.json and
    the weight files, for transformers to load from where names do not match (an index is written into it). output: a
    folder for new files. embedding: whether the model has no output embedding, which the files may have.
    Return the place of each tensor, and the files that places name. Raise WeightsError where tensors are missing, too
    many, or of another shape.
    """
    wanted = Wanted.of(model)
    loading = _Loading(model, wanted, folder, trust_remote_code=trust_remote_code, embedding=embedding)
    by_file_name = _read_headers(files)
    stored = loading.under_own_names(by_file_name)
    _refuse_untied(wanted, by_file_name if stored is None else stored, files)
    if stored is None:
        tensors: Iterator[tuple[str, Tensor]] = loading.converted(by_file_name)
        places: dict[str, Place] = {}
    else:
        _check_shapes(wanted, stored)
        places = {
            name: Place(stored[name].file, stored[name].name)
            for name in wanted.stored
            if stored[name].tensor.dtype == dtype_name(wanted.tensors[name].dtype)
        }
        tensors = _cast(wanted, [name for name in sorted(wanted.stored) if name not in places], files, stored)
    used = {place.file: files[place.file] for place in places.values()}
    for name, place, path in _write(tensors, output, "packed"):
        places[name], used[place.file] = place, path
    for name, place, path in _write(_buffers(wanted, places), output, "derived"):
        places[name], used[place.file] = place, path
    return dict(sorted(places.items())), used


def _read_headers(files: Mapping[str, Path]) -> dict[str, _Stored]:
    stored: dict[str, _Stored] = {}
    for file, path in sorted(files.items()):
        for name, tensor in read_header(path, file).items():
            if name in stored:
                raise WeightsError(f"tensor `{name}` is in two weight files, `{stored[name].file}` and `{file}`")
            stored[name] = _Stored(file, name, tensor)
    return stored


class _Loading:
    """How transformers would load the weight files into a model: by other names, and where it must, itself."""

    def __init__(
        self, model: PreTrainedModel, wanted: Wanted, folder: Path, *, trust_remote_code: bool, embedding: bool
    ) -> None:
        self._model, self._wanted, self._folder = model, wanted, folder
        self._trust_remote_code, self._embedding = trust_remote_code, embedding

    def under_own_names(self, stored: Mapping[str, _Stored]) -> Mapping[str, _Stored] | None:
        """Return the stored tensors by the model's names; None where transformers must load them."""
        wanted = self._wanted
        if (
            not get_checkpoint_conversion_mapping(self._model.config.model_type)
            and wanted.stored <= stored.keys() <= wanted.tensors.keys() | wanted.aliases.keys()
        ):
            return stored
        names = names_in_files(self._complete(embedding=self._embedding), stored)
        if names is None:
            return None
        renamed = {names[key]: entry for key, entry in stored.items()}
        return renamed if wanted.stored <= renamed.keys() and not self._unknown(renamed) else None

    def _complete(self, *, embedding: bool) -> PreTrainedModel:
        return build_complete_model(
            self._model.config, self._model.dtype, trust_remote_code=self._trust_remote_code, embedding=embedding
        )

    def _unknown(self, names: Iterable[str]) -> list[str]:
        """Return those of `names` that are in no part of the model, also not in one that was left out of it."""
        unknown = set(names) - set(self._wanted.tensors) - set(self._wanted.aliases)
        if unknown:
            unknown -= self._complete(embedding=self._embedding).state_dict().keys()
        if unknown and self._embedding:
            unknown -= self._complete(embedding=False).state_dict().keys()
        return sorted(unknown)

    def converted(self, stored: Mapping[str, _Stored]) -> Iterator[tuple[str, Tensor]]:
        """Let transformers load the checkpoint in its own way, and take the tensors from the model that it makes."""
        _write_index(stored, self._folder)
        try:
            loading: Any = auto_class(embedding=self._embedding).from_pretrained(
                self._folder,
                dtype=self._model.dtype,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=self._trust_remote_code,
            )
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise WeightsError("transformers could not load the weight files", causes=[first]) from error
        loaded, report = loading
        self._check_report(report)
        state = {**dict(loaded.named_parameters()), **dict(loaded.named_buffers())}
        for name in sorted(self._wanted.stored):
            yield name, state[name].detach().to(self._wanted.tensors[name].dtype)

    def _check_report(self, report: Mapping[str, Any]) -> None:
        own = self._wanted.tensors.keys() | self._wanted.aliases.keys()
        missing, unexpected = sorted(report["missing_keys"] & own), self._unknown(report["unexpected_keys"])
        if missing:
            raise _disagreement([f"`{name}` is missing" for name in missing], "is in no weight file")
        if unexpected:
            raise _disagreement([f"`{name}` is too many" for name in unexpected], "is unknown to the model")
        mismatched = [entry for entry in report["mismatched_keys"] if entry[0] in own]
        if mismatched:
            lines = [
                f"`{name}` has shape {list(is_)}, the config makes it {list(should)}"
                for name, is_, should in mismatched
            ]
            raise _disagreement(sorted(lines), "has another shape than config.json makes it")


def _check_shapes(wanted: Wanted, stored: Mapping[str, _Stored]) -> None:
    wrong = [
        f"`{name}` has shape {list(stored[name].tensor.shape)}, the config makes it {list(wanted.tensors[name].shape)}"
        for name in sorted(wanted.stored)
        if stored[name].tensor.shape != tuple(wanted.tensors[name].shape)
    ]
    if wrong:
        raise _disagreement(wrong, "has another shape than config.json makes it")


def _cast(
    wanted: Wanted, names: Sequence[str], files: Mapping[str, Path], stored: Mapping[str, _Stored]
) -> Iterator[tuple[str, Tensor]]:
    """Read tensors one by one, each in the dtype that the model wants."""
    for file in sorted({stored[name].file for name in names}):
        with safe_open(files[file], framework="pt") as reader:
            for name in (name for name in names if stored[name].file == file):
                yield name, reader.get_tensor(stored[name].name).to(wanted.tensors[name].dtype)


def _refuse_untied(wanted: Wanted, stored: Mapping[str, _Stored], files: Mapping[str, Path]) -> None:
    """Raise WeightsError where tensors that config.json ties are stored with different bytes: which one is meant?"""
    for alias, original in wanted.aliases.items():
        if alias in stored and original in stored and _bytes(stored[alias], files) != _bytes(stored[original], files):
            raise WeightsError(
                f"config.json ties `{alias}` to `{original}`, but the weight files hold two different tensors",
                hint="if both are meant, set `tie_word_embeddings` to false in config.json",
            )


def _bytes(stored: _Stored, files: Mapping[str, Path]) -> bytes:
    with files[stored.file].open("rb") as reader:
        reader.seek(stored.tensor.start)
        return reader.read(stored.tensor.end - stored.tensor.start)


def _write_index(stored: Mapping[str, _Stored], folder: Path) -> None:
    """Write the index by which transformers finds tensors in files that are not one `model.safetensors`."""
    if not (folder / "model.safetensors").exists():
        weight_map = {name: entry.file for name, entry in stored.items()}
        index = {"metadata": {}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))


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
