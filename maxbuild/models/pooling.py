"""Pooling: how one vector is made of what a model says of a row's tokens, as sentence-transformers' files tell it.

The files: https://sbert.net/docs/sentence_transformer/usage/custom_models.html. `modules.json` lists what a text goes
through, `1_Pooling/config.json` says how tokens are pooled.

Invariant: a module that is not understood is refused, never left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maxbuild.errors import UnsupportedModel
from maxbuild.runtime.program import Pooling, PoolingMode
from maxbuild.weights.selection import MODULES

UNTOLD = Pooling(PoolingMode.MEAN, normalized=False)
"""The pooling of a model without such files: what sentence-transformers does with one (`_load_auto_model` there)."""

# Names as `1_Pooling/config.json` has them: one flag for each mode, and since version 5.4 one name.
_MODES = {"cls": PoolingMode.FIRST, "lasttoken": PoolingMode.LAST, "mean": PoolingMode.MEAN}
_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
}


def read_pooling(files: Mapping[str, Path]) -> Pooling:
    """Read how a model pools from sentence-transformers' files, by their path in the model's folder.

    Raise UnsupportedModel for another pooling than the first token, the last one or the mean, for another module after
    it than a normalisation, and for a file that is missing or malformed.
    """
    if MODULES not in files:
        return UNTOLD
    kinds = [(_last_word(entry, "type"), str(entry.get("path", ""))) for entry in _read(files, MODULES, list)]
    names = [kind for kind, _ in kinds]
    if names[:2] != ["Transformer", "Pooling"] or names[2:] not in ([], ["Normalize"]):
        unknown = next((name for name in names if name not in {"Transformer", "Pooling", "Normalize"}), None)
        what = f"a module `{unknown}`" if unknown else f"the modules {', '.join(names) or 'of none'}"
        raise UnsupportedModel(
            f"`{MODULES}` asks for {what}, which is not supported",
            hint="supported: a transformer, a pooling, and a normalisation or nothing",
        )
    return Pooling(_read_mode(files, f"{kinds[1][1]}/config.json"), normalized=names[2:] == ["Normalize"])


def _read_mode(files: Mapping[str, Path], path: str) -> PoolingMode:
    config = _read(files, path, dict)
    told = config.get("pooling_mode")
    wanted = [told] if told else [name for flag, name in _FLAGS.items() if config.get(flag)]
    if len(wanted) != 1 or wanted[0] not in _MODES:
        raise UnsupportedModel(
            f"`{path}` asks for the pooling {' and '.join(map(str, wanted)) or 'of nothing'}, which is not supported",
            hint=f"supported is one of {', '.join(_MODES)}",
        )
    return _MODES[wanted[0]]


def _last_word(entry: Any, name: str) -> str:
    """Return `Pooling` for `sentence_transformers.models.Pooling`; the modules before it differ by version."""
    return str(entry.get(name, "") if isinstance(entry, dict) else "").rpartition(".")[2]


def _read(files: Mapping[str, Path], path: str, kind: type) -> Any:
    if path not in files:
        raise UnsupportedModel(f"`{MODULES}` names `{path}`, which the model does not have")
    try:
        document = json.loads(files[path].read_bytes())
    except ValueError as error:
        raise UnsupportedModel(f"`{path}` is not JSON", causes=[str(error)]) from error
    if not isinstance(document, kind):
        raise UnsupportedModel(f"`{path}` is no JSON {'array' if kind is list else 'object'}")
    return document


def pool(hidden: Tensor, positions: Tensor, lengths: Tensor, pooling: Pooling) -> Tensor:
    """Make one vector of each row, in float32 whatever the model computes in.

    hidden: (batch, sequence, size). positions: int64 (batch, sequence), where each token stands in its row. lengths:
    int64 (batch,), at least 1; tokens from there on are padding. Returns (batch, size).
    """
    match pooling.mode:
        case PoolingMode.FIRST:
            pooled = hidden[:, 0].float()
        case PoolingMode.LAST:
            last = (lengths - 1)[:, None, None].expand(-1, 1, hidden.shape[-1])
            pooled = hidden.gather(1, last)[:, 0].float()
        case PoolingMode.MEAN:
            counted = (positions < lengths[:, None])[:, :, None]
            # What a model says of padding may be anything, and zero times infinity is no number.
            pooled = torch.where(counted, hidden.float(), 0.0).sum(dim=1) / lengths[:, None].float()
    return torch.nn.functional.normalize(pooled, dim=-1) if pooling.normalized else pooled
