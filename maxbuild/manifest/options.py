"""The option table: every option's name, place, type, meaning, and the task kinds whose documents its value enters.

An option is `effective` or `refused`; nothing that is in neither state exists, so nothing is accepted and then ignored.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

TOP: Final = ""
ROLE: Final = "models.ROLE"
SPECULATIVE: Final = "speculative"
COMPILE: Final = "compile"
KV_CACHE: Final = "kv_cache"
SAMPLING: Final = "sampling"
LORA: Final = "lora"
PARALLEL: Final = "parallel"
DENOISING: Final = "denoising_cache"
RUNTIME: Final = "runtime"
COMMAND_LINE: Final = "the command line"

SECTIONS: Final = (SPECULATIVE, COMPILE, KV_CACHE, SAMPLING, LORA, PARALLEL, DENOISING, RUNTIME)
KNOWN_ROLES: Final = ("main", "draft", "transformer", "vae", "text_encoder", "text_encoder_2", "image_encoder")
EFFECTIVE_ROLES: Final = ("main", "draft")

NAME_PATTERN: Final = "[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
NOT_YET: Final = "not supported yet"


class TaskKind(StrEnum):
    """A kind of task whose documents an option's value can enter."""

    DOWNLOAD = "download"
    LOAD = "load"
    TRACE = "trace"
    COMPILE = "compile"
    PACKAGE = "package"


class ValueType(StrEnum):
    """What may stand as an option's value."""

    TEXT = "text"
    INTEGER = "whole number"
    NUMBER = "number"
    BOOLEAN = "`true` or `false`"
    CHOICE = "choice"
    LIST = "list"
    MAPPING = "mapping"


class State(StrEnum):
    """Whether an option does something, or is known and refused."""

    EFFECTIVE = "effective"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Option:
    """One option: where it stands, what it holds, which task kinds it enters, and whether it does anything yet."""

    name: str
    place: str
    value_type: ValueType
    kinds: tuple[TaskKind, ...]
    help: str
    state: State = State.EFFECTIVE
    reason: str = ""
    choices: tuple[str, ...] = ()
    refused_choices: tuple[str, ...] = ()
    minimum: int | None = None
    aliases: tuple[str, ...] = ()

    @property
    def effective(self) -> bool:
        """Tell whether setting the option does something."""
        return self.state is State.EFFECTIVE


_LETTERS = {
    "D": TaskKind.DOWNLOAD,
    "L": TaskKind.LOAD,
    "T": TaskKind.TRACE,
    "C": TaskKind.COMPILE,
    "P": TaskKind.PACKAGE,
}


def _on(
    place: str,
    name: str,
    value_type: ValueType,
    kinds: str,
    help_text: str,
    *,
    choices: str = "",
    refused_choices: str = "",
    minimum: int | None = None,
    aliases: str = "",
) -> Option:
    """Make an effective option; `kinds` are initials, the choices and aliases are words."""
    return Option(
        name=name,
        place=place,
        value_type=value_type,
        kinds=tuple(_LETTERS[letter] for letter in kinds),
        help=help_text,
        choices=tuple(choices.split()),
        refused_choices=tuple(refused_choices.split()),
        minimum=minimum,
        aliases=tuple(aliases.split()),
    )


def _off(
    place: str,
    name: str,
    value_type: ValueType,
    kinds: str,
    help_text: str,
    *,
    choices: str = "",
) -> Option:
    """Make an option that is known and refused."""
    return Option(
        name=name,
        place=place,
        value_type=value_type,
        kinds=tuple(_LETTERS[letter] for letter in kinds),
        help=help_text,
        state=State.REFUSED,
        reason=NOT_YET,
        choices=tuple(choices.split()),
    )


_TEXT, _INTEGER, _NUMBER = ValueType.TEXT, ValueType.INTEGER, ValueType.NUMBER
_BOOLEAN, _CHOICE, _LIST, _MAPPING = ValueType.BOOLEAN, ValueType.CHOICE, ValueType.LIST, ValueType.MAPPING

_TOP_OPTIONS = (
    _on(TOP, "version", _INTEGER, "", "Version of the manifest's own format: 1."),
    _on(TOP, "name", _TEXT, "P", "What people call this manifest: letters, digits, `.`, `_` and `-`."),
    _on(
        TOP,
        "targets",
        _LIST,
        "CP",
        "What to build for: `cpu:x86-64-v3`, `cuda:sm_90`, `hip:gfx942`; a bare `cpu`, `cuda` or `hip` is this host's.",
        aliases="target",
    ),
    _on(TOP, "models", _MAPPING, "P", "The models, each under its role: `main`, and `draft` for speculative decoding."),
    _on(
        TOP,
        "overrides",
        _LIST,
        "",
        "Last words on single values, `role.field=value`; of two on one field the later wins.",
        aliases="override model_override",
    ),
    _off(TOP, "extends", _TEXT, "", "Another manifest whose values stand where this one says nothing."),
    _off(TOP, "custom_architectures", _LIST, "T", "Python modules that bring further model architectures."),
)

_ENCODINGS_LATER = "q4_k q4_0 q6_k float8_e4m3fn float4_e2m1fnx2 gptq"

_MODEL_OPTIONS = (
    _on(
        ROLE,
        "model_path",
        _TEXT,
        "DLT",
        "The model: a folder, relative to the manifest (`./model`), or a hub repository (`organization/name`).",
        aliases="model path",
    ),
    _on(
        ROLE,
        "huggingface_model_revision",
        _TEXT,
        "D",
        "Branch, tag or commit of the hub repository; it is pinned to a commit in the lock.",
        aliases="revision model_revision",
    ),
    _on(ROLE, "subfolder", _TEXT, "D", "Folder inside the model that holds its configuration and weights."),
    _on(ROLE, "trust_remote_code", _BOOLEAN, "DLT", "Whether Python code that comes with the model may run."),
    _on(
        ROLE,
        "quantization_encoding",
        _CHOICE,
        "LT",
        "Number format of the weights; unset, the one the model's files are in.",
        choices="float32 bfloat16",
        refused_choices=_ENCODINGS_LATER,
        aliases="encoding dtype",
    ),
    _on(
        ROLE,
        "max_length",
        _INTEGER,
        "T",
        "Longest sequence in tokens, prompt and answer together; unset, the model's own limit.",
        minimum=2,
        aliases="max_model_len max_seq_len",
    ),
    _on(ROLE, "use_subgraphs", _BOOLEAN, "T", "Compile each kind of repeated block once, not one whole graph."),
    _on(ROLE, "emit_ptx", _BOOLEAN, "C", "Put PTX beside the kernels of CUDA targets, for later drivers and GPUs."),
    _on(ROLE, "chat_template", _TEXT, "P", "Chat template: the template itself, or a file, relative to the manifest."),
    _on(ROLE, "served_model_name", _TEXT, "P", "Name under which clients see the model; unset, the manifest's name."),
    _off(ROLE, "huggingface_weight_revision", _TEXT, "D", "Revision of the weights, where it is not the model's own."),
    _off(ROLE, "weight_path", _LIST, "DL", "Weight files from elsewhere: local, `org/repo/file`, `org/repo` or a URL."),
    _off(ROLE, "force_download", _BOOLEAN, "", "Download again what is there already."),
    _off(
        ROLE,
        "rope_type",
        _CHOICE,
        "LT",
        "Rotary embedding of GGUF weights.",
        choices="none normal neox longrope yarn",
    ),
    _off(ROLE, "vision_config_overrides", _MAPPING, "TP", "Values merged into the model's vision configuration."),
    _off(ROLE, "pool_embeddings", _BOOLEAN, "T", "Pool the outputs of an embedding model."),
    _off(ROLE, "enable_echo", _BOOLEAN, "T", "Give logits for every position, the prompt's too."),
    _off(ROLE, "data_parallel_degree", _INTEGER, "TP", "How many copies of the model share the requests."),
    _off(ROLE, "devices", _TEXT, "TCP", "Kind, count and numbers of the devices that run the model."),
    _off(ROLE, "config_file", _TEXT, "", "YAML file with further values for this model."),
    _off(ROLE, "section_name", _TEXT, "", "Section of `config_file` to read."),
)

_SPECULATIVE_OPTIONS = (
    _on(
        SPECULATIVE,
        "speculative_method",
        _CHOICE,
        "P",
        "How draft tokens come about: `standalone` is a smaller model of its own.",
        choices="standalone",
        refused_choices="eagle mtp",
        aliases="method",
    ),
    _on(
        SPECULATIVE,
        "num_speculative_tokens",
        _INTEGER,
        "P",
        "How many tokens the draft proposes per step.",
        minimum=1,
        aliases="num_tokens speculative_tokens",
    ),
    _on(
        SPECULATIVE,
        "rejection_sampling_strategy",
        _CHOICE,
        "P",
        "How proposed tokens are accepted: `greedy` takes those that the main model would have chosen.",
        choices="greedy",
        refused_choices="residual typical-acceptance logit-comparison",
        aliases="strategy",
    ),
    _off(SPECULATIVE, "relaxed_topk", _INTEGER, "T", "How many candidates relaxed acceptance looks at."),
    _off(SPECULATIVE, "relaxed_delta", _NUMBER, "T", "Probability gap within which relaxed acceptance accepts."),
    _off(SPECULATIVE, "use_relaxed_acceptance_for_thinking", _BOOLEAN, "T", "Accept more freely while it thinks."),
    _off(SPECULATIVE, "synthetic_acceptance_rate", _NUMBER, "T", "Accept at a fixed rate, for measurements only."),
)

_COMPILE_OPTIONS = (
    _off(COMPILE, "prefer_module_v3", _BOOLEAN, "T", "Prefer an architecture's own eager implementation."),
    _off(COMPILE, "use_experimental_kernels", _BOOLEAN, "TC", "Use kernels marked experimental."),
    _off(COMPILE, "use_vendor_blas", _BOOLEAN, "C", "Use the vendor's matrix library instead of generated kernels."),
    _off(COMPILE, "use_vendor_ccl", _BOOLEAN, "TC", "Use the vendor's library for collective operations."),
    _off(COMPILE, "gpu_profiling", _CHOICE, "C", "Profiling ranges in the artifacts.", choices="off on detailed"),
)

_KV_CACHE_OPTIONS = (
    _off(
        KV_CACHE,
        "kv_cache_format",
        _CHOICE,
        "T",
        "Number format of the cached keys and values.",
        choices="float32 bfloat16 float8_e4m3fn",
    ),
    _off(KV_CACHE, "kv_cache_page_size", _INTEGER, "T", "Tokens per page of the paged cache."),
    _off(KV_CACHE, "enable_prefix_caching", _BOOLEAN, "P", "Reuse the cache of prompts that begin alike."),
    _off(KV_CACHE, "device_memory_utilization", _NUMBER, "P", "Fraction of the device's memory that may be used."),
    _off(KV_CACHE, "kvcache_ce_watermark", _NUMBER, "P", "Cache fill above which no new prompt is begun."),
    _off(
        KV_CACHE,
        "kv_connector",
        _CHOICE,
        "P",
        "Where cached keys and values go when they leave the device.",
        choices="null local tiered lmcache dkv",
    ),
    _off(KV_CACHE, "kv_connector_config", _MAPPING, "P", "Settings of the connector."),
)

_SAMPLING_OPTIONS = (
    _off(SAMPLING, "enable_penalties", _BOOLEAN, "T", "Frequency and presence penalties."),
    _off(SAMPLING, "enable_min_tokens", _BOOLEAN, "T", "A least number of tokens before the model may stop."),
    _off(SAMPLING, "enable_structured_output", _BOOLEAN, "T", "Answers that follow a given JSON schema."),
    _off(SAMPLING, "enable_variable_logits", _BOOLEAN, "T", "Logits for a different number of positions per request."),
)

_LORA_OPTIONS = (
    _off(LORA, "enable_lora", _BOOLEAN, "T", "Serve LoRA adapters."),
    _off(LORA, "lora_paths", _LIST, "DL", "Adapters that are packaged."),
    _off(LORA, "max_lora_rank", _INTEGER, "T", "Largest rank of an adapter."),
    _off(LORA, "max_num_loras", _INTEGER, "T", "Most adapters active in one batch."),
)

_PARALLEL_OPTIONS = (
    _off(PARALLEL, "ep_size", _INTEGER, "TCP", "Expert parallelism: 1, or the number of devices."),
    _off(PARALLEL, "ep_use_allreduce", _BOOLEAN, "TCP", "Exchange expert outputs by all-reduce."),
)

_DENOISING_OPTIONS = (
    _off(DENOISING, "first_block_caching", _BOOLEAN, "T", "Skip the other blocks when the first one hardly changed."),
    _off(DENOISING, "teacache", _BOOLEAN, "T", "Skip steps by the change of the timestep's modulation."),
    _off(DENOISING, "teacache_coefficients", _LIST, "P", "Polynomial that rescales that change."),
    _off(DENOISING, "teacache_rel_l1_thresh", _NUMBER, "P", "Change below which a step is skipped."),
    _off(DENOISING, "taylorseer", _BOOLEAN, "T", "Predict steps by a Taylor series."),
    _off(DENOISING, "taylorseer_max_order", _INTEGER, "T", "Order of that series: 1 or 2."),
    _off(DENOISING, "taylorseer_cache_interval", _INTEGER, "P", "Steps between two full computations."),
    _off(DENOISING, "taylorseer_warmup_steps", _INTEGER, "P", "Steps before the first prediction."),
)

_RUNTIME_OPTIONS = (
    _off(
        RUNTIME,
        "pipeline_role",
        _CHOICE,
        "TP",
        "Which of prefill and decode is served.",
        choices="prefill_and_decode prefill_only decode_only",
    ),
    _off(RUNTIME, "device_graph_capture", _BOOLEAN, "P", "Capture device graphs when the package is loaded."),
    _off(RUNTIME, "debug_verify_replay", _BOOLEAN, "P", "Check a captured graph against a plain run before its use."),
    _off(RUNTIME, "max_batch_size", _INTEGER, "P", "Most requests in one batch."),
    _off(RUNTIME, "max_num_steps", _INTEGER, "P", "Decode steps per scheduling round."),
    _off(RUNTIME, "max_batch_input_tokens", _INTEGER, "P", "New tokens that a batch aims at."),
    _off(RUNTIME, "max_batch_total_tokens", _INTEGER, "P", "Most tokens of context in one batch."),
    _off(RUNTIME, "ce_delay_ms", _NUMBER, "P", "Pause before a prefill batch, in milliseconds."),
    _off(RUNTIME, "decode_stall_timeout_s", _NUMBER, "P", "Seconds without a batch after which a decode worker ends."),
    _off(RUNTIME, "enable_chunked_prefill", _BOOLEAN, "P", "Split long prompts into several batches."),
    _off(RUNTIME, "enable_in_flight_batching", _BOOLEAN, "P", "Batch decoding together with prefill."),
    _off(RUNTIME, "enable_overlap_scheduler", _BOOLEAN, "P", "Schedule the next batch while this one runs."),
    _off(RUNTIME, "enable_prioritize_first_decode", _BOOLEAN, "P", "Decode a batch right after its prefill."),
    _off(RUNTIME, "execute_empty_batches", _BOOLEAN, "P", "Run batches that hold no request."),
    _off(RUNTIME, "max_queue_size_tg", _INTEGER, "P", "Most requests in the decode queue."),
    _off(RUNTIME, "min_batch_size_tg", _INTEGER, "P", "Decode batch below which prefill goes first."),
    _off(RUNTIME, "max_vision_cache_entries", _INTEGER, "P", "Most images whose encoding is kept."),
    _off(RUNTIME, "reasoning_parser", _TEXT, "P", "Parser that takes the thinking out of an answer."),
    _off(RUNTIME, "zmq_endpoint_base", _TEXT, "P", "Prefix of the server's ZMQ endpoints."),
)

_COMMAND_LINE_OPTIONS = (
    _off(COMMAND_LINE, "force", _BOOLEAN, "", "Skip the checks of an architecture's required arguments."),
    _off(COMMAND_LINE, "defer_resolve", _BOOLEAN, "", "Plan without touching hub or lock."),
)

OPTIONS: Final = (
    *_TOP_OPTIONS,
    *_MODEL_OPTIONS,
    *_SPECULATIVE_OPTIONS,
    *_COMPILE_OPTIONS,
    *_KV_CACHE_OPTIONS,
    *_SAMPLING_OPTIONS,
    *_LORA_OPTIONS,
    *_PARALLEL_OPTIONS,
    *_DENOISING_OPTIONS,
    *_RUNTIME_OPTIONS,
    *_COMMAND_LINE_OPTIONS,
)

_BY_PLACE_AND_NAME = {(option.place, option.name): option for option in OPTIONS}
_BY_NAME = {option.name: option for option in OPTIONS}


def find_option(place: str, name: str) -> Option | None:
    """Return the option called `name` that stands at `place`, or None."""
    return _BY_PLACE_AND_NAME.get((place, name))


def find_anywhere(name: str) -> Option | None:
    """Return the option called `name`, wherever it stands, or None."""
    return _BY_NAME.get(name)


def options_at(place: str) -> tuple[Option, ...]:
    """Return the options that stand at `place`, in the table's order."""
    return tuple(option for option in OPTIONS if option.place == place)


def get_option(place: str, name: str) -> Option:
    """Return the option called `name` at `place`; KeyError when the table has none."""
    return _BY_PLACE_AND_NAME[place, name]
