"""Choose which of a model's files are needed, by name alone.

Invariant: weights come from one format, safetensors, and are there once; a pickle is never opened, since opening one
runs what it says.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Final

from maxbuild.errors import UnsupportedModel, WeightsError
from maxbuild.weights.formats import GGUF, PICKLE, SAFETENSORS, VARIANTS, Layout, format_of, index_layout, layout_of

CONFIG: Final = "config.json"
MODULES: Final = "modules.json"
"""sentence-transformers' list of what a text goes through; only embedding models have one."""
PIPELINE: Final = "model_index.json"

_SERVING_FILES: Final = frozenset(
    {
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "generation_config.json",
        "chat_template.jinja",
        "chat_template.json",
        "preprocessor_config.json",
        "processor_config.json",
        "video_preprocessor_config.json",
    }
)

_POOLING: Final = re.compile(r"[0-9]+_Pooling/config\.json")
"""Where sentence-transformers writes how tokens are pooled; `modules.json` names the folder."""

_VOCABULARIES: Final = frozenset(
    {"vocab.json", "merges.txt", "vocab.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model"}
)
"""What a tokenizer is made of where no `tokenizer.json` holds all of it."""

# transformers and diffusers look for these, in a repository that holds other layouts of the same weights as well.
_USUAL_STEMS: Final = ("model", "diffusion_pytorch_model")
_OTHER_LAYOUT: Final = "consolidated"
_ADAPTER: Final = "adapter_"

ANOTHER_LAYOUT: Final = "the same weights in another layout"
ANOTHER_VARIANT: Final = "another variant of the weights"
ANOTHER_FOLDER: Final = "weights in a folder that is not the model's"
AN_ADAPTER: Final = "an adapter, not a model"
ELSEWHERE: Final = "weights, which come from elsewhere"
CODE: Final = "code that comes with the model, without `trust_remote_code`"
THE_REST: Final = "not needed"


@dataclass(frozen=True, slots=True)
class ComponentFiles:
    """The files of one component, relative to its folder.

    Weights, repository code, what a server reads, and how an embedding model pools. `index` lists shards: no task reads
    it, but other programs that find the shards in the hub cache do. `aside` says of every other file why it is left.
    """

    weights: tuple[str, ...]
    code: tuple[str, ...]
    serving: tuple[str, ...]
    index: tuple[str, ...] = ()
    aside: Mapping[str, str] | None = None
    pooling: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Return all that tasks take, the config first."""
        return (CONFIG, *self.weights, *self.code, *self.serving, *self.pooling)


def select_files(
    names: Iterable[str], model: str, *, trust_remote_code: bool, encoding: str | None = None, weights: bool = True
) -> ComponentFiles:
    """Choose among the names of a folder's files, relative to it.

    model: what to call the model in errors. encoding: the one wanted, where one is. weights: whether the weights are
    taken from here. Raise UnsupportedModel without a config and WeightsError without weights.
    """
    names = sorted(names)
    top = [name for name in names if "/" not in name]
    if CONFIG not in top:
        raise _no_config(names, model)
    chosen, index = select_weights(names, model, encoding=encoding) if weights else ((), ())
    tokenizer = "tokenizer.json" in top
    files = ComponentFiles(
        weights=chosen,
        code=tuple(name for name in top if name.endswith(".py")) if trust_remote_code else (),
        serving=tuple(name for name in top if name in _SERVING_FILES or (name in _VOCABULARIES and not tokenizer)),
        index=index,
        pooling=tuple(name for name in names if name == MODULES or _POOLING.fullmatch(name)) if MODULES in top else (),
    )
    aside = {name: _reason(name, chosen) for name in names if name not in {*files.names, *files.index}}
    return replace(files, aside=aside)


def select_weights(
    names: Iterable[str], model: str, *, encoding: str | None = None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Choose the weight files of a folder, one whole set of one format, and the index that lists them.

    Where the same weights are there as one file and in shards, the one file is taken, as transformers does. Raise
    WeightsError where there are none, or shards are lacking.
    """
    top = sorted(name for name in names if "/" not in name)
    weights = _weights(top, model, encoding)
    return weights, _index(top, weights)


def shards_of(index: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return those of `names` that the file `index` lists, as far as names tell."""
    listed = index_layout(index)
    return tuple(sorted(n for n in names if (f := layout_of(n)) and (f[0].stem, f[0].variant) == listed and f[1]))


def check_whole(names: Iterable[str], what: str) -> None:
    """Raise WeightsError where `names` hold a part of the shards of a set only; `what` is what they are called."""
    sets = _sets(names)
    for layout in sets:
        _whole(layout, sets, what)


def _weights(top: Collection[str], model: str, encoding: str | None) -> tuple[str, ...]:
    sets = _sets(top)
    indexed = [stem for stem, _ in (found for found in map(index_layout, top) if found)]
    for stem in _USUAL_STEMS:
        if of_stem := {layout: files for layout, files in sets.items() if layout.stem == stem}:
            return _whole(_layout(of_stem, model, encoding), of_stem, model)
        if stem in indexed:  # an index may name its shards as it likes
            break
    others = [layout for layout in sets if not layout.stem.startswith((_OTHER_LAYOUT, _ADAPTER))]
    others = [layout for layout in others if layout.variant is None] or others
    others = others or [layout for layout in sets if layout.stem.startswith(_OTHER_LAYOUT)]
    if not others:
        raise _no_weights(top, model)
    return tuple(sorted(name for layout in others for name in _whole(layout, sets, model)))


def _sets(names: Iterable[str]) -> dict[Layout, dict[int, str]]:
    sets: dict[Layout, dict[int, str]] = {}
    for name in names:
        if found := layout_of(name):
            sets.setdefault(found[0], {})[found[1]] = name
    return sets


def _layout(sets: Collection[Layout], model: str, encoding: str | None) -> Layout:
    """Return the layout that suits `encoding`: its own variant, else the plain one, else the only one there is."""
    variants = {layout.variant for layout in sets}
    own = {variant for variant in variants if variant and encoding and VARIANTS[variant] == encoding}
    if len(own or variants) > 1 and not own and None not in variants:
        found = ", ".join(f"`{variant}`" for variant in sorted(str(variant) for variant in variants))
        raise WeightsError(
            f"the weights of `{model}` are there in several variants only: {found}",
            hint="name the files of one in `weight_path`",
        )
    variant = min(own, default=None) if own or None in variants else next(iter(variants))
    return min((layout for layout in sets if layout.variant == variant), key=lambda layout: layout.shards)


def _whole(layout: Layout, sets: Mapping[Layout, Mapping[int, str]], model: str) -> tuple[str, ...]:
    """Return the files of a set; WeightsError where shards of it are lacking."""
    files = sets[layout]
    if lacking := [number for number in range(1, layout.shards + 1) if number not in files]:
        first = f"{lacking[0]} of {layout.shards}"
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise WeightsError(
            f"the weights of `{model}` are not whole: shard {first} of `{layout.stem}` is not there{more}",
            hint="fetch the model again, or tell its owner",
        )
    return tuple(files[number] for number in sorted(files))


def _index(top: Iterable[str], chosen: Iterable[str]) -> tuple[str, ...]:
    """Return the index that lists `chosen`, where it is one that does."""
    stems = {(found[0].stem, found[0].variant) for found in map(layout_of, chosen) if found}
    if len(tuple(chosen)) < 2:
        return ()
    return tuple(name for name in top if (found := index_layout(name)) and (found in stems or len(stems) > 1))


def _reason(name: str, chosen: Collection[str]) -> str:
    """Return why the file `name` is left."""
    form = format_of(name)
    if form is None:
        return CODE if name.endswith(".py") and "/" not in name else THE_REST
    if not chosen:
        return ELSEWHERE
    if form != SAFETENSORS:
        return f"another format: {form}"
    if "/" in name:
        return ANOTHER_FOLDER
    found = layout_of(name)
    if found and found[0].stem.startswith(_ADAPTER):
        return AN_ADAPTER
    stems = {layout[0].stem for layout in map(layout_of, chosen) if layout}
    return ANOTHER_VARIANT if found and found[0].variant and found[0].stem in stems else ANOTHER_LAYOUT


def _no_config(names: Collection[str], model: str) -> UnsupportedModel:
    folders = sorted({name.rpartition("/")[0] for name in names if PurePosixPath(name).name == CONFIG and "/" in name})
    if PIPELINE in names and folders:
        shown = ", ".join(f"`{folder}`" for folder in folders)
        return UnsupportedModel(
            f"`{model}` is a pipeline of several models: it has {PIPELINE}, and no {CONFIG} of its own",
            hint=f"name one of its models with `subfolder`: {shown}",
        )
    if any(format_of(name) == GGUF for name in names):
        return UnsupportedModel(
            f"`{model}` has no {CONFIG}",
            causes=["its weights are GGUF, which maxbuild does not read"],
            hint="name the repository that they were made of, which holds safetensors",
        )
    hint = "`model_path` names the folder that holds config.json"
    if folders:
        hint += f", and `subfolder` a folder in it; there is one in {', '.join(f'`{folder}`' for folder in folders)}"
    return UnsupportedModel(f"`{model}` has no {CONFIG}", hint=hint)


def _no_weights(top: Iterable[str], model: str) -> WeightsError:
    formats = {name: form for name in top if (form := format_of(name))}
    if pickle := next((name for name, form in formats.items() if form == PICKLE), None):
        return WeightsError(
            f"the weights of `{model}` are pickles (`{pickle}`), which run code when they are opened",
            hint="convert them to safetensors: `model.save_pretrained(folder)` in transformers writes them",
        )
    others = sorted(set(formats.values()) - {SAFETENSORS})
    causes = [f"it holds weights in formats that maxbuild does not read: {', '.join(others)}"] if others else []
    return WeightsError(f"`{model}` has no weight files", causes=causes, hint="maxbuild reads `*.safetensors`")
