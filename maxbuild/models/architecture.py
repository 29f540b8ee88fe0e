"""From a folder with a config.json to a model without data: transformers' own class, on the meta device.

Invariant: no weight file is opened here, and no code of a repository runs unless it was allowed by name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    dynamic_module_utils,
)
from transformers.core_model_loading import build_glob_alternation
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from maxbuild.architectures.registry import choose_architecture
from maxbuild.errors import UnsupportedModel
from maxbuild.models.attention import IMPLEMENTATION
from maxbuild.models.experts import use_expert_operator
from maxbuild.models.idle import idle_modules, leave_out
from maxbuild.models.vision_config import VISION_CONFIG, merge_vision_config

ENCODINGS: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""The weight encodings that need no packing: stored so and computed so."""


def keep_repository_code_in(folder: Path) -> None:
    """Let transformers import trusted repository code from `folder`, for this process.

    Otherwise it does so from one folder for all of the user's models, where code of an earlier revision may lie.
    """
    dynamic_module_utils.HF_MODULES_CACHE = str(folder)  # type: ignore[attr-defined]


def read_config(
    folder: Path, *, trust_remote_code: bool, vision_config_overrides: Mapping[str, Any] | None = None
) -> PreTrainedConfig:
    """Read `folder/config.json` through transformers, with the overrides merged into its vision config.

    Raise UnsupportedModel where it names nothing known, and where an override has no vision config or no value there
    to stand in for.
    """
    config = _read_config(folder, trust_remote_code=trust_remote_code)
    if not vision_config_overrides:
        return config
    merged = merge_vision_config(_read_json(folder / "config.json"), vision_config_overrides)
    known = vars(getattr(config, VISION_CONFIG))
    for name in vision_config_overrides:
        if name not in known:
            shown = ", ".join(f"`{key}`" for key in sorted(merged[VISION_CONFIG]) if key in known)
            raise UnsupportedModel(
                f"`vision_config_overrides` sets `{name}`, which the model's `{VISION_CONFIG}` does not have",
                hint=f"config.json says {shown} there" if shown else None,
            )
    # A link to the model's own file, which is not ours to write to.
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps(merged))
    return _read_config(folder, trust_remote_code=trust_remote_code)


def _read_config(folder: Path, *, trust_remote_code: bool) -> PreTrainedConfig:
    document = _read_json(folder / "config.json")
    model_type = document.get("model_type")
    # A custom architecture is used in place of transformers' own class, and of code that the model brings.
    custom = choose_architecture(document)
    if custom is None and document.get("auto_map") and not trust_remote_code:
        raise UnsupportedModel(
            "the model brings its own code (`auto_map` in config.json)",
            hint="read that code; if you trust it, set `trust_remote_code: true` for this role",
        )
    if not isinstance(model_type, str):
        raise UnsupportedModel("config.json names no `model_type`, so the architecture is unknown")
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code, local_files_only=True)
    except Exception as error:  # transformers raises whatever a wrong value leads to
        raise UnsupportedModel(
            f"config.json describes no architecture that transformers knows (`model_type`: `{model_type}`)",
            causes=[str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__],
            hint="check `model_type` and `architectures` in config.json",
        ) from error
    if not isinstance(config, PreTrainedConfig):
        raise UnsupportedModel(f"config.json of model type `{model_type}` is no model config")
    return config


def encoding_of(config: PreTrainedConfig, wanted: str | None) -> str:
    """Return the encoding to build: the wanted one, else the one config.json says the weights have."""
    if wanted is not None:
        return wanted
    stored = str(getattr(config, "dtype", None) or "float32").removeprefix("torch.")
    if stored not in ENCODINGS:
        raise UnsupportedModel(
            f"config.json says the weights are {stored}, which is no encoding",
            hint=f"set `quantization_encoding` for this role to one of {', '.join(ENCODINGS)}",
        )
    return stored


def max_length_of(config: PreTrainedConfig, wanted: int | None) -> int:
    """Return the longest row to build for: the wanted length, else all the positions that the model has."""
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    if wanted is None and positions is None:
        raise UnsupportedModel("config.json has no `max_position_embeddings`", hint="set `max_length` for this role")
    if wanted is not None and positions is not None and wanted > positions:
        raise UnsupportedModel(
            f"`max_length` is {wanted}, but the model has {positions} positions (`max_position_embeddings`)",
            hint=f"set `max_length` to {positions} or less",
        )
    return int(wanted if wanted is not None else positions)  # type: ignore[arg-type]


def embeds(config: PreTrainedConfig, *, pools: bool = False) -> bool:
    """Tell whether `config` is of an embedding model: it names the class that has no output embedding.

    pools: sentence-transformers' files say how the model pools. They are of embedding models alone, whose config.json
    often names the class of the language model that they were made of.
    """
    bare: Any = MODEL_MAPPING.get(type(config), ())
    classes = bare if isinstance(bare, (list, tuple)) else (bare,)
    return pools or any(name in {each.__name__ for each in classes} for name in (config.architectures or ())[:1])


def auto_class(*, embedding: bool) -> Any:
    """Return transformers' class that makes and loads embedding models, or causal language models."""
    return AutoModel if embedding else AutoModelForCausalLM


def build_model(
    config: PreTrainedConfig,
    dtype: torch.dtype,
    max_length: int,
    *,
    trust_remote_code: bool,
    embedding: bool = False,
    device: str = "meta",
) -> PreTrainedModel:
    """Make the model that `config` describes, in `dtype`, with weights of no value on `device`.

    It is the causal language model or, where `embedding` is set, the model without an output embedding; of a
    multimodal model what text runs through.
    """

    def build(device: str) -> PreTrainedModel:
        made = build_complete_model(
            config, dtype, trust_remote_code=trust_remote_code, embedding=embedding, device=device
        )
        use_expert_operator(made)
        return made

    model = build(device)
    if config.get_text_config() is not config:
        leave_out(model, idle_modules(model if device == "meta" else build("meta")))
    pin_rotary_frequencies(model, max_length)
    model.eval()
    return model


def build_complete_model(
    config: PreTrainedConfig,
    dtype: torch.dtype,
    *,
    trust_remote_code: bool,
    embedding: bool = False,
    device: str = "meta",
) -> PreTrainedModel:
    """Make the model as transformers would load it, nothing left out, with weights of no value on `device`."""
    try:
        with torch.device(device):
            # transformers writes into configs while it builds models.
            model: PreTrainedModel = auto_class(embedding=embedding).from_config(
                deepcopy(config),
                dtype=dtype,
                attn_implementation=IMPLEMENTATION,
                trust_remote_code=trust_remote_code,
            )
    except Exception as error:  # transformers raises whatever a wrong value leads to
        raise UnsupportedModel(
            f"transformers makes no {_what(embedding=embedding)} of model type `{config.model_type}`",
            causes=[str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__],
        ) from error
    _keep_in_float32(model, dtype)
    return model


def _what(*, embedding: bool) -> str:
    return "model without an output embedding" if embedding else "causal language model"


def _keep_in_float32(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Keep what a model's authors keep in float32 whatever the rest is in, as `from_pretrained` does.

    `from_config` does not: a router's bias rounded to bfloat16 picks other experts.
    """
    plan = model._get_dtype_plan(dtype)
    if not plan:
        return
    names, _, _ = build_glob_alternation(list(plan))
    for name in model.state_dict():
        if names.search(name):
            owner, _, local = name.rpartition(".")
            module = model.get_submodule(owner)
            if local in module._buffers:
                module._buffers[local] = module.get_buffer(local).float()
            else:
                module._parameters[local] = torch.nn.Parameter(module.get_parameter(local).float())


def build_model_with_buffers(
    config: PreTrainedConfig, dtype: torch.dtype, *, trust_remote_code: bool, embedding: bool = False
) -> PreTrainedModel:
    """Make the model with real buffers, which the config determines, and parameters of no value.

    Buffers such as rotary frequencies are in no checkpoint, and what the meta device computes is lost.
    """
    register = torch.nn.Module.register_parameter

    def register_without_data(module: torch.nn.Module, name: str, parameter: torch.nn.Parameter | None) -> None:
        if parameter is not None and not parameter.is_meta:
            parameter = torch.nn.Parameter(parameter.to("meta"), requires_grad=False)
        register(module, name, parameter)

    torch.nn.Module.register_parameter = register_without_data  # type: ignore[method-assign, assignment]
    try:
        return build_model(
            config, dtype, max_length=0, trust_remote_code=trust_remote_code, embedding=embedding, device="cpu"
        )
    finally:
        torch.nn.Module.register_parameter = register  # type: ignore[method-assign]


def pin_rotary_frequencies(model: torch.nn.Module, max_length: int) -> None:
    """Make rotary embeddings that change with the row's length constant, where `max_length` means they never change.

    transformers' `dynamic_rope_update` reads positions' values to decide, which no graph can hold. Up to the original
    length its decision is always the same: the frequencies that the module starts with.
    """
    for name, module in model.named_modules():
        rope_type = getattr(module, "rope_type", None)
        if not isinstance(rope_type, str) or rope_type not in {"dynamic", "longrope"}:
            continue
        config: Any = module.config
        parameters = getattr(config, "rope_parameters", None) or {}
        original = parameters.get("original_max_position_embeddings") or config.max_position_embeddings
        if max_length > original:
            raise UnsupportedModel(
                f"`{name}` changes its {rope_type} frequencies beyond {original} positions",
                hint=f"set `max_length` to {original} or less",
            )
        module.rope_type = "default"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise UnsupportedModel("the model has no config.json") from error
    except ValueError as error:
        raise UnsupportedModel("config.json is not JSON", causes=[str(error)]) from error
    if not isinstance(document, dict):
        raise UnsupportedModel("config.json is not a JSON object")
    return document
