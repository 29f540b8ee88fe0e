"""The sections of a manifest as typed, frozen values; what their options are, their rows in the option table say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from pydantic import ValidationInfo, field_validator

from maxbuild.manifest.checks import wrong
from maxbuild.manifest.fields import FreeMapping, Line, Section
from maxbuild.manifest.options import COMPILE, KV_CACHE, RUNTIME, SAMPLING, SPECULATIVE, defaults_at

_speculative = defaults_at(SPECULATIVE)
_compile = defaults_at(COMPILE)
_kv_cache = defaults_at(KV_CACHE)
_sampling = defaults_at(SAMPLING)
_runtime = defaults_at(RUNTIME)

_NEEDS_PREFIX_CACHING: Final = frozenset({"local", "tiered", "lmcache"})


class SpeculativeConfig(Section):
    """How the draft's tokens come about and how they are accepted."""

    place: ClassVar[str] = SPECULATIVE

    speculative_method: str
    num_speculative_tokens: int
    synthetic_acceptance_rate: float | None = None
    rejection_sampling_strategy: str = _speculative["rejection_sampling_strategy"]
    use_relaxed_acceptance_for_thinking: bool = _speculative["use_relaxed_acceptance_for_thinking"]
    relaxed_topk: int = _speculative["relaxed_topk"]
    relaxed_delta: float = _speculative["relaxed_delta"]

    # These see what is said alone, never a default: what would be passed over is refused, not ignored.
    @field_validator("rejection_sampling_strategy", "use_relaxed_acceptance_for_thinking", mode="after")
    @classmethod
    def _check_is_used(cls, value: str | bool, info: ValidationInfo) -> str | bool:
        if value is not False and info.data.get("synthetic_acceptance_rate") is not None:
            raise wrong(
                f"`{info.field_name}` has no effect beside `synthetic_acceptance_rate`, which accepts at a fixed rate",
                "leave one of the two out",
            )
        return value

    @field_validator("relaxed_topk", "relaxed_delta", mode="after")
    @classmethod
    def _check_is_relaxed(cls, value: float, info: ValidationInfo) -> float:
        if info.data.get("use_relaxed_acceptance_for_thinking") is False:
            raise wrong(
                f"`{info.field_name}` has no effect without `use_relaxed_acceptance_for_thinking: true`",
                "say that too, or leave this out",
            )
        return value


class CompileConfig(Section):
    """What the code for a target is like, beyond what the graphs say."""

    place: ClassVar[str] = COMPILE

    alternatives: int = _compile["alternatives"]
    emit_ptx: bool = _compile["emit_ptx"]
    gpu_profiling: str = _compile["gpu_profiling"]


class KvCacheConfig(Section):
    """The cache of keys and values: what its tensors are, and how a server may use it."""

    place: ClassVar[str] = KV_CACHE

    kv_cache_format: str | None = None
    enable_prefix_caching: bool = _kv_cache["enable_prefix_caching"]
    device_memory_utilization: float = _kv_cache["device_memory_utilization"]
    kvcache_ce_watermark: float = _kv_cache["kvcache_ce_watermark"]
    kv_connector: str = _kv_cache["kv_connector"]
    kv_connector_config: FreeMapping | None = None

    @field_validator("kv_connector", mode="after")
    @classmethod
    def _check_connector(cls, connector: str, info: ValidationInfo) -> str:
        if connector in _NEEDS_PREFIX_CACHING and info.data.get("enable_prefix_caching") is False:
            raise wrong(
                f"`kv_connector: {connector}` keeps prefixes, and `enable_prefix_caching` is `false`",
                "leave one of the two out",
            )
        return connector

    @field_validator("kv_connector_config", mode="after")
    @classmethod
    def _check_connector_config(cls, config: FreeMapping | None, info: ValidationInfo) -> FreeMapping | None:
        if config is not None and info.data.get("kv_connector") == _kv_cache["kv_connector"]:
            raise wrong("`kv_connector_config` needs a `kv_connector`", "for example `kv_connector: local`")
        return config


class SamplingConfig(Section):
    """What samplers are given."""

    place: ClassVar[str] = SAMPLING

    enable_variable_logits: bool = _sampling["enable_variable_logits"]


class RuntimeConfig(Section):
    """What a server does with the package; nothing here shapes an artifact."""

    place: ClassVar[str] = RUNTIME

    pipeline_role: str = _runtime["pipeline_role"]
    max_batch_size: int | None = None
    device_graph_capture: bool | None = None
    debug_verify_replay: bool = _runtime["debug_verify_replay"]
    max_num_steps: int = _runtime["max_num_steps"]
    max_batch_input_tokens: int = _runtime["max_batch_input_tokens"]
    max_batch_total_tokens: int | None = None
    ce_delay_ms: float = _runtime["ce_delay_ms"]
    decode_stall_timeout_s: float | None = None
    enable_chunked_prefill: bool = _runtime["enable_chunked_prefill"]
    enable_in_flight_batching: bool = _runtime["enable_in_flight_batching"]
    enable_overlap_scheduler: bool | None = None
    enable_prioritize_first_decode: bool = _runtime["enable_prioritize_first_decode"]
    execute_empty_batches: bool = _runtime["execute_empty_batches"]
    max_queue_size_tg: int | None = None
    min_batch_size_tg: int | None = None
    max_vision_cache_entries: int = _runtime["max_vision_cache_entries"]
    reasoning_parser: Line | None = None
    zmq_endpoint_base: Line | None = None

    @field_validator("device_graph_capture", mode="after")
    @classmethod
    def _check_capture(cls, capture: bool | None, info: ValidationInfo) -> bool | None:
        # A graph is captured once for each size of batch, so a server has to know the largest.
        if capture and info.data.get("max_batch_size", 0) is None:
            raise wrong("`device_graph_capture` needs a `max_batch_size`", "for example `max_batch_size: 64`")
        return capture

    @field_validator("debug_verify_replay", mode="after")
    @classmethod
    def _check_replay(cls, verify: bool, info: ValidationInfo) -> bool:
        if verify and not info.data.get("device_graph_capture", True):
            raise wrong("`debug_verify_replay` needs `device_graph_capture: true`")
        return verify

    @field_validator("max_num_steps", mode="after")
    @classmethod
    def _check_steps(cls, steps: int) -> int:
        if steps == 0:
            raise wrong("`max_num_steps` must be at least 1, or -1 where the server decides, not `0`")
        return steps


SECTION_MODELS: Final[Mapping[str, type[Section]]] = {
    SPECULATIVE: SpeculativeConfig,
    COMPILE: CompileConfig,
    KV_CACHE: KvCacheConfig,
    SAMPLING: SamplingConfig,
    RUNTIME: RuntimeConfig,
}
"""For each section that a manifest can have, its type; of the others every option is refused."""
