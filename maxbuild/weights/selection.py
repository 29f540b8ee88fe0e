"""Choose which of a model's files are needed, by name alone.

Invariant: weights come from one format, safetensors; a pickle is never opened, since opening one runs what it says.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from maxbuild.errors import UnsupportedModel, WeightsError

CONFIG = "config.json"

_SERVING_FILES = frozenset(
    {
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "generation_config.json",
        "chat_template.jinja",
        "chat_template.json",
    }
)
_PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt"})


@dataclass(frozen=True, slots=True)
class ComponentFiles:
    """The files of one component, relative to its folder: weights, repository code, and what a server reads."""

    weights: tuple[str, ...]
    code: tuple[str, ...]
    serving: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Return all of them, the config first."""
        return (CONFIG, *self.weights, *self.code, *self.serving)


def select_files(names: Iterable[str], model: str, *, trust_remote_code: bool) -> ComponentFiles:
    """Choose among the names of a folder's files, relative to it.

    model: what to call the model in errors. Raise UnsupportedModel without a config and WeightsError without weights.
    """
    top = sorted(name for name in names if "/" not in name)
    if CONFIG not in top:
        raise UnsupportedModel(
            f"`{model}` has no {CONFIG}", hint="`model_path` names the folder that holds config.json"
        )
    return ComponentFiles(
        weights=_weights(top, model),
        code=tuple(name for name in top if name.endswith(".py")) if trust_remote_code else (),
        serving=tuple(name for name in top if name in _SERVING_FILES),
    )


def _weights(top: list[str], model: str) -> tuple[str, ...]:
    found = [name for name in top if name.endswith(".safetensors")]
    # A repository may hold the same weights twice: split as transformers wants them, and consolidated for others.
    own = [name for name in found if name.startswith("model")] or [n for n in found if not n.startswith("consolidated")]
    if own or found:
        return tuple(own or found)
    pickles = [name for name in top if PurePosixPath(name).suffix in _PICKLES]
    if pickles:
        raise WeightsError(
            f"the weights of `{model}` are pickles (`{pickles[0]}`), which run code when they are opened",
            hint="convert them to safetensors: `model.save_pretrained(folder)` in transformers writes them",
        )
    raise WeightsError(f"`{model}` has no weight files", hint="maxbuild reads `*.safetensors`")
