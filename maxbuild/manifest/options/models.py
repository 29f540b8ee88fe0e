"""Rows of the option table: the top of a manifest, what stands under a role, and what only a command line says."""

from __future__ import annotations

from typing import Final

from maxbuild.manifest.options.option import ValueType, carried, effective, refused
from maxbuild.manifest.options.places import COMMAND_LINE, ROLE, TOP

_TEXT, _INTEGER, _BOOLEAN = ValueType.TEXT, ValueType.INTEGER, ValueType.BOOLEAN
_CHOICE, _LIST, _MAPPING = ValueType.CHOICE, ValueType.LIST, ValueType.MAPPING

_ONE_DEVICE: Final = "a package runs on one device"
_ONLY_GGUF: Final = (
    "it tells how GGUF weights are laid out, and weights are read from safetensors, whose `config.json` says it"
)
_UNPACKED: Final = (
    "weights are stored and computed in 16 or 32 bits only, and this encoding needs kernels that unpack it"
)

WAYS_OF_SAYING: Final = frozenset({"extends", "environment", "matrix", "config_file", "section_name"})
"""Options that say other options' values, and are gone once these are known: no typed manifest has them."""

TOP_OPTIONS: Final = (
    effective(TOP, "version", _INTEGER, "", "Version of the manifest's own format: 1.", required=True, flag=None),
    effective(
        TOP,
        "name",
        _TEXT,
        "P",
        "What people call this manifest: letters, digits, `.`, `_` and `-`.",
        required=True,
    ),
    effective(
        TOP,
        "targets",
        _LIST,
        "CP",
        "What to build for: `cpu:x86-64-v3`, `cuda:sm_90`, `hip:gfx942`; a bare `cpu`, `cuda` or `hip` is this host's.",
        required=True,
        aliases="target",
        flag="--target",
    ),
    effective(
        TOP,
        "models",
        _MAPPING,
        "P",
        "The models, each under its role: `main`, and `draft` for speculative decoding.",
        required=True,
    ),
    effective(
        TOP,
        "overrides",
        _LIST,
        "",
        "Last words on single values, `role.field=value`; of two on one field the later wins.",
        default=(),
        aliases="override model_override",
        flag="--model-override",
    ),
    effective(
        TOP,
        "extends",
        _LIST,
        "",
        "Other manifests, relative to this one, whose values stand where this one says nothing.",
        default=(),
        aliases="extend base include",
        flag=None,
    ),
    effective(
        TOP,
        "environment",
        _LIST,
        "",
        "Variables of the environment that values refer to as `${env:NAME}`, each with a default or without.",
        default=(),
        aliases="env",
        flag=None,
    ),
    effective(
        TOP,
        "matrix",
        _MAPPING,
        "",
        "Fields with several values each; every combination of these is a variant of the manifest.",
        unset="one variant",
        flag=None,
    ),
    effective(
        TOP,
        "custom_architectures",
        _LIST,
        "LT",
        "Python modules that bring architectures of their own: `folder:module`, `file.py`, or an installed one's name.",
        default=(),
        by_content=True,
    ),
)

MODEL_OPTIONS: Final = (
    effective(
        ROLE,
        "model_path",
        _TEXT,
        "DLT",
        "The model: a folder, relative to the manifest (`./model`), or a hub repository (`organization/name`).",
        required=True,
        by_content=True,
        aliases="model path",
        flag_alias="--model",
    ),
    effective(
        ROLE,
        "huggingface_model_revision",
        _TEXT,
        "D",
        "Branch, tag or commit of the hub repository; it is pinned to a commit in the lock.",
        unset="`main`",
        by_content=True,
        aliases="revision model_revision",
    ),
    effective(
        ROLE,
        "huggingface_weight_revision",
        _TEXT,
        "D",
        "Revision of the weights, where it is not the model's own.",
        unset="the model's revision",
        by_content=True,
        aliases="weight_revision",
    ),
    effective(
        ROLE,
        "weight_path",
        _LIST,
        "DL",
        "Weight files from elsewhere: local, `org/repo/file`, `org/repo` or a URL.",
        default=(),
        by_content=True,
        aliases="weights",
    ),
    effective(
        ROLE,
        "subfolder",
        _TEXT,
        "D",
        "Folder inside the model that holds its configuration and weights.",
        unset="the model's own folder",
        by_content=True,
    ),
    effective(ROLE, "force_download", _BOOLEAN, "", "Download again what is there already.", default=False),
    effective(
        ROLE,
        "trust_remote_code",
        _BOOLEAN,
        "DLT",
        "Whether Python code that comes with the model may run.",
        default=False,
    ),
    effective(
        ROLE,
        "quantization_encoding",
        _CHOICE,
        "DLT",
        "Number format of the weights; unset, the one the model's files are in.",
        unset="what `config.json` says",
        choices="float32 bfloat16",
        refused_choices=dict.fromkeys(("q4_k", "q4_0", "q6_k", "float8_e4m3fn", "float4_e2m1fnx2", "gptq"), _UNPACKED),
        aliases="encoding dtype",
    ),
    effective(
        ROLE,
        "max_length",
        _INTEGER,
        "T",
        "Longest sequence in tokens, prompt and answer together; unset, the model's own limit.",
        unset="`max_position_embeddings`",
        minimum=2,
        aliases="max_model_len max_seq_len",
    ),
    refused(
        ROLE,
        "rope_type",
        _CHOICE,
        "LT",
        "Rotary embedding of GGUF weights.",
        _ONLY_GGUF,
        unset="the model's own",
        choices="none normal neox longrope yarn",
    ),
    effective(
        ROLE,
        "vision_config_overrides",
        _MAPPING,
        "TP",
        "Values merged into the `vision_config` of the model's `config.json`.",
        unset="nothing",
    ),
    effective(
        ROLE,
        "pool_embeddings",
        _BOOLEAN,
        "T",
        "Of an embedding model: one vector for each text, not one for each token; refused for a language model.",
        unset="pooled, where the model is an embedding model",
    ),
    effective(ROLE, "enable_echo", _BOOLEAN, "T", "Give logits for every position, the prompt's too.", default=False),
    refused(
        ROLE,
        "data_parallel_degree",
        _INTEGER,
        "TP",
        "How many copies of the model share the requests.",
        _ONE_DEVICE,
        default=1,
        minimum=1,
    ),
    carried(
        ROLE,
        "devices",
        _TEXT,
        "Kind and number of the device that runs the model: `cpu`, `gpu`, `gpu:1`.",
        unset="any of the target's kind",
    ),
    effective(
        ROLE,
        "use_subgraphs",
        _BOOLEAN,
        "T",
        "Compile each kind of repeated block once, not one whole graph.",
        default=True,
    ),
    effective(
        ROLE,
        "chat_template",
        _TEXT,
        "P",
        "Chat template: the template itself, or a file, relative to the manifest.",
        unset="the model's own",
    ),
    effective(
        ROLE,
        "served_model_name",
        _TEXT,
        "P",
        "Name under which clients see the model; unset, the manifest's name.",
        unset="the manifest's `name`",
    ),
    effective(
        ROLE,
        "config_file",
        _TEXT,
        "",
        "YAML file with further values for this model, which stand where nothing else says them.",
        unset="none",
    ),
    effective(ROLE, "section_name", _TEXT, "", "Section of `config_file` to read.", unset="the whole file"),
)

COMMAND_LINE_OPTIONS: Final = (
    refused(
        COMMAND_LINE,
        "force",
        _BOOLEAN,
        "",
        "Skip the checks of an architecture's required arguments.",
        "no architecture rewrites a value or requires one, so there is no check to skip",
        default=False,
    ),
    refused(
        COMMAND_LINE,
        "defer_resolve",
        _BOOLEAN,
        "",
        "Plan without touching hub or lock.",
        "a plan is made of a model's list of files; once that is locked, no hub is asked",
        default=False,
    ),
)
