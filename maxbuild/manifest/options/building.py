"""Rows of the option table: the sections whose values shape what is built."""

from __future__ import annotations

from typing import Final

from maxbuild.manifest.options.option import ValueType, effective, refused
from maxbuild.manifest.options.places import COMPILE, DENOISING, LORA, PARALLEL, SAMPLING, SPECULATIVE

_INTEGER, _NUMBER, _BOOLEAN = ValueType.INTEGER, ValueType.NUMBER, ValueType.BOOLEAN
_CHOICE, _LIST = ValueType.CHOICE, ValueType.LIST

_NO_SAMPLER: Final = "the samplers of packages have no inputs for it"
_NO_ADAPTERS: Final = "regions have no inputs for adapters; merge one into the model's weights first"
_ONE_DEVICE: Final = "a package runs on one device"
_NO_DIFFUSION: Final = "packages are built from language models, which have no denoising steps"

SPECULATIVE_OPTIONS: Final = (
    effective(
        SPECULATIVE,
        "speculative_method",
        _CHOICE,
        "P",
        "How draft tokens come about: `standalone` is a smaller model of its own.",
        required=True,
        choices="standalone",
        refused_choices={
            "eagle": "drafts that read the main model's hidden states are not built",
            "mtp": "heads that predict further tokens are not built",
        },
        aliases="method",
    ),
    effective(
        SPECULATIVE,
        "num_speculative_tokens",
        _INTEGER,
        "P",
        "How many tokens the draft proposes per step.",
        required=True,
        minimum=1,
        aliases="num_tokens speculative_tokens",
    ),
    # Before the strategy, whose check looks at it.
    effective(
        SPECULATIVE,
        "synthetic_acceptance_rate",
        _NUMBER,
        "SP",
        "For measurements: the share of proposed tokens that is accepted, whatever the models think.",
        unset="none",
        minimum=0,
        maximum=1,
    ),
    effective(
        SPECULATIVE,
        "rejection_sampling_strategy",
        _CHOICE,
        "SP",
        "How proposed tokens are accepted; `residual` and `greedy` leave what the main model would say as it is.",
        default="residual",
        choices="greedy residual typical-acceptance logit-comparison",
        aliases="strategy",
    ),
    effective(
        SPECULATIVE,
        "use_relaxed_acceptance_for_thinking",
        _BOOLEAN,
        "MS",
        "Between `<think>` and `</think>`, accept what the main model thinks nearly as well of as of its own token.",
        default=False,
    ),
    effective(
        SPECULATIVE,
        "relaxed_topk",
        _INTEGER,
        "S",
        "Among how many of the main model's likeliest tokens relaxed acceptance looks.",
        default=10,
        minimum=1,
    ),
    effective(
        SPECULATIVE,
        "relaxed_delta",
        _NUMBER,
        "S",
        "How far below its likeliest token's probability relaxed acceptance goes.",
        default=0.6,
        minimum=0,
        maximum=1,
    ),
)

COMPILE_OPTIONS: Final = (
    effective(
        COMPILE,
        "alternatives",
        _INTEGER,
        "C",
        "How many further forms of each region are packaged for `maxbuild tune` to time on the GPU.",
        default=0,
        minimum=0,
        maximum=4,
        # It says how many compiles there are, and stands in the document of none.
        by_content=True,
        apis="cuda hip",
        flag=None,
        negative_flag=None,
    ),
    effective(
        COMPILE,
        "emit_ptx",
        _BOOLEAN,
        "C",
        "Put PTX beside the kernels of CUDA targets, for later drivers and GPUs.",
        default=False,
        apis="cuda",
        flag=None,
        negative_flag=None,
    ),
    effective(
        COMPILE,
        "gpu_profiling",
        _CHOICE,
        "C",
        "`on`: let regions for GPUs tell torch's profiler of themselves and of each kernel by name.",
        default="off",
        apis="cuda hip",
        choices="off on",
        refused_choices={
            "detailed": "lines of source in kernels would name folders of the host that built them,"
            " and two hosts would build different bytes"
        },
    ),
    refused(
        COMPILE,
        "prefer_module_v3",
        _BOOLEAN,
        "T",
        "Prefer an architecture's own eager implementation.",
        "each architecture has one implementation, the one that is cut into regions",
        default=False,
    ),
    refused(
        COMPILE,
        "use_experimental_kernels",
        _BOOLEAN,
        "TC",
        "Use kernels marked experimental.",
        "no kernel is marked experimental",
        default=False,
        negative_flag=None,
    ),
    refused(
        COMPILE,
        "use_vendor_blas",
        _BOOLEAN,
        "C",
        "Use the vendor's matrix library instead of generated kernels.",
        "matrix products call the vendor's library as it is, and there are no generated ones to choose",
        default=True,
        negative_flag=None,
    ),
    refused(
        COMPILE,
        "use_vendor_ccl",
        _BOOLEAN,
        "TC",
        "Use the vendor's library for collective operations.",
        f"{_ONE_DEVICE}, so there are no collective operations",
        default=False,
        negative_flag=None,
    ),
)

SAMPLING_OPTIONS: Final = (
    refused(
        SAMPLING,
        "enable_penalties",
        _BOOLEAN,
        "T",
        "Frequency and presence penalties.",
        _NO_SAMPLER,
        default=False,
    ),
    refused(
        SAMPLING,
        "enable_min_tokens",
        _BOOLEAN,
        "T",
        "A least number of tokens before the model may stop.",
        _NO_SAMPLER,
        default=False,
    ),
    refused(
        SAMPLING,
        "enable_structured_output",
        _BOOLEAN,
        "T",
        "Answers that follow a given JSON schema.",
        _NO_SAMPLER,
        default=False,
    ),
    effective(
        SAMPLING,
        "enable_variable_logits",
        _BOOLEAN,
        "T",
        "Logits for a different number of positions per request.",
        default=False,
    ),
)

LORA_OPTIONS: Final = (
    refused(LORA, "enable_lora", _BOOLEAN, "T", "Serve LoRA adapters.", _NO_ADAPTERS, default=False),
    refused(LORA, "lora_paths", _LIST, "DL", "Adapters that are packaged.", _NO_ADAPTERS, default=(), by_content=True),
    refused(LORA, "max_lora_rank", _INTEGER, "T", "Largest rank of an adapter.", _NO_ADAPTERS, default=16, minimum=1),
    refused(
        LORA, "max_num_loras", _INTEGER, "T", "Most adapters active in one batch.", _NO_ADAPTERS, default=1, minimum=1
    ),
)

PARALLEL_OPTIONS: Final = (
    refused(
        PARALLEL,
        "ep_size",
        _INTEGER,
        "TCP",
        "Expert parallelism: 1, or the number of devices.",
        _ONE_DEVICE,
        default=1,
        minimum=1,
    ),
    refused(
        PARALLEL,
        "ep_use_allreduce",
        _BOOLEAN,
        "TCP",
        "Exchange expert outputs by all-reduce.",
        _ONE_DEVICE,
        default=False,
    ),
)

DENOISING_OPTIONS: Final = (
    refused(
        DENOISING,
        "first_block_caching",
        _BOOLEAN,
        "T",
        "Skip the other blocks when the first one hardly changed.",
        _NO_DIFFUSION,
        default=False,
    ),
    refused(
        DENOISING,
        "teacache",
        _BOOLEAN,
        "T",
        "Skip steps by the change of the timestep's modulation.",
        _NO_DIFFUSION,
        default=False,
    ),
    refused(
        DENOISING,
        "teacache_coefficients",
        _LIST,
        "P",
        "Polynomial that rescales that change.",
        _NO_DIFFUSION,
        unset="the model's own",
    ),
    refused(
        DENOISING,
        "teacache_rel_l1_thresh",
        _NUMBER,
        "P",
        "Change below which a step is skipped.",
        _NO_DIFFUSION,
        unset="the model's own",
        minimum=0,
    ),
    refused(
        DENOISING,
        "taylorseer",
        _BOOLEAN,
        "T",
        "Predict steps by a Taylor series.",
        _NO_DIFFUSION,
        default=False,
    ),
    refused(
        DENOISING,
        "taylorseer_max_order",
        _INTEGER,
        "T",
        "Order of that series: 1 or 2.",
        _NO_DIFFUSION,
        unset="the model's own",
        minimum=1,
        maximum=2,
    ),
    refused(
        DENOISING,
        "taylorseer_cache_interval",
        _INTEGER,
        "P",
        "Steps between two full computations.",
        _NO_DIFFUSION,
        unset="the model's own",
        minimum=1,
    ),
    refused(
        DENOISING,
        "taylorseer_warmup_steps",
        _INTEGER,
        "P",
        "Steps before the first prediction.",
        _NO_DIFFUSION,
        unset="the model's own",
        minimum=1,
    ),
)
