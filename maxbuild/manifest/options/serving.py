"""Rows of the option table: the sections whose values mostly steer a server; packages hand those on."""

from __future__ import annotations

from typing import Final

from maxbuild.manifest.options.option import ValueType, carried, effective, refused
from maxbuild.manifest.options.places import KV_CACHE, RUNTIME

_TEXT, _INTEGER, _NUMBER = ValueType.TEXT, ValueType.INTEGER, ValueType.NUMBER
_BOOLEAN, _CHOICE, _MAPPING = ValueType.BOOLEAN, ValueType.CHOICE, ValueType.MAPPING

_NO_SCALES: Final = "eight bits need a scale beside each head's keys and values, and attention here takes none"
_SERVER: Final = "the server decides"

KV_CACHE_OPTIONS: Final = (
    effective(
        KV_CACHE,
        "kv_cache_format",
        _CHOICE,
        "T",
        "Number format of the cached keys and values.",
        unset="what the model computes them in",
        choices="float32 bfloat16",
        refused_choices={"float8_e4m3fn": _NO_SCALES},
    ),
    refused(
        KV_CACHE,
        "kv_cache_page_size",
        _INTEGER,
        "T",
        "Tokens per page of the paged cache.",
        "each layer's cache is one tensor without pages",
        default=128,
        minimum=128,
        multiple=128,
    ),
    carried(KV_CACHE, "enable_prefix_caching", _BOOLEAN, "Reuse the cache of prompts that begin alike.", default=True),
    carried(
        KV_CACHE,
        "device_memory_utilization",
        _NUMBER,
        "Fraction of the device's memory that may be used.",
        default=0.9,
        above=0,
        maximum=1,
    ),
    carried(
        KV_CACHE,
        "kvcache_ce_watermark",
        _NUMBER,
        "Fraction of the cache in use above which no new prompt is begun.",
        default=0.95,
        minimum=0,
        maximum=1,
    ),
    carried(
        KV_CACHE,
        "kv_connector",
        _CHOICE,
        "Where cached keys and values go when they leave the device; `null` is nowhere.",
        default="null",
        choices="null local tiered lmcache dkv",
    ),
    carried(KV_CACHE, "kv_connector_config", _MAPPING, "Settings of the connector.", unset="the connector's own"),
)

RUNTIME_OPTIONS: Final = (
    carried(
        RUNTIME,
        "pipeline_role",
        _CHOICE,
        "Which of prefill and decode is served; every region can do both.",
        default="prefill_and_decode",
        choices="prefill_and_decode prefill_only decode_only",
    ),
    carried(
        RUNTIME, "device_graph_capture", _BOOLEAN, "Capture device graphs when the package is loaded.", unset=_SERVER
    ),
    carried(
        RUNTIME,
        "debug_verify_replay",
        _BOOLEAN,
        "Check a captured graph against a plain run before its use.",
        default=False,
    ),
    carried(RUNTIME, "max_batch_size", _INTEGER, "Most requests in one batch.", unset=_SERVER, minimum=1),
    carried(
        RUNTIME,
        "max_num_steps",
        _INTEGER,
        "Decode steps per scheduling round; -1: the server decides.",
        default=-1,
        minimum=-1,
    ),
    carried(
        RUNTIME,
        "max_batch_input_tokens",
        _INTEGER,
        "New tokens that a batch aims at.",
        default=8192,
        minimum=1,
    ),
    carried(
        RUNTIME,
        "max_batch_total_tokens",
        _INTEGER,
        "Most tokens of context in one batch.",
        unset="no limit",
        minimum=1,
    ),
    carried(
        RUNTIME,
        "ce_delay_ms",
        _NUMBER,
        "Pause before a prefill batch, in milliseconds.",
        default=0,
        minimum=0,
    ),
    carried(
        RUNTIME,
        "decode_stall_timeout_s",
        _NUMBER,
        "Seconds without a batch after which a decode worker ends.",
        unset="never",
        above=0,
    ),
    carried(RUNTIME, "enable_chunked_prefill", _BOOLEAN, "Split long prompts into several batches.", default=True),
    carried(RUNTIME, "enable_in_flight_batching", _BOOLEAN, "Batch decoding together with prefill.", default=False),
    carried(
        RUNTIME,
        "enable_overlap_scheduler",
        _BOOLEAN,
        "Schedule the next batch while this one runs.",
        unset=_SERVER,
    ),
    carried(
        RUNTIME, "enable_prioritize_first_decode", _BOOLEAN, "Decode a batch right after its prefill.", default=False
    ),
    carried(RUNTIME, "execute_empty_batches", _BOOLEAN, "Run batches that hold no request.", default=False),
    carried(
        RUNTIME,
        "max_queue_size_tg",
        _INTEGER,
        "Most requests in the decode queue.",
        unset="`max_batch_size`",
        minimum=1,
    ),
    carried(
        RUNTIME,
        "min_batch_size_tg",
        _INTEGER,
        "Decode batch below which prefill goes first.",
        unset="`max_queue_size_tg`",
        minimum=1,
    ),
    carried(
        RUNTIME,
        "max_vision_cache_entries",
        _INTEGER,
        "Most images whose encoding is kept; 0 keeps none.",
        default=256,
        minimum=0,
    ),
    carried(RUNTIME, "reasoning_parser", _TEXT, "Parser that takes the thinking out of an answer.", unset="none"),
    carried(
        RUNTIME, "zmq_endpoint_base", _TEXT, "Prefix of the server's ZMQ endpoints.", unset="one that the server makes"
    ),
)
