"""Where each figure of the device table is from: vendors' documents, by title and section.

Invariant: every figure of every device has a source, and a source says whether its figures were compared with the
document itself (`checked`) or are known to be from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from maxbuild.targets.devices import Device
from maxbuild.targets.spelling import Target


@dataclass(frozen=True, slots=True)
class Source:
    """One place in a document. `checked`: the figures were compared with it; otherwise they are known from it."""

    title: str
    section: str
    checked: bool


_CUDA_GPUS = Source("NVIDIA, CUDA GPU Compute Capability (developer.nvidia.com/cuda-gpus)", "the whole page", False)
# The table of the CUDA C++ Programming Guide, "Compute Capabilities", "Technical Specifications", as NVIDIA ships it to
# programs; what a block may opt in to is the multiprocessor's less the 1 KiB that the driver reserves for each block.
_CCCL = Source("NVIDIA, CUDA Core Compute Libraries 13.3 (nvidia-cuda-cccl)", "cuda/__device/arch_traits.h", True)
_A100 = Source("NVIDIA A100 Tensor Core GPU Architecture, white paper", "comparison of data center GPUs", False)
_AMPERE_TUNING = Source(
    "NVIDIA Ampere GPU Architecture Tuning Guide", "1.4.2.2 Increased L2 Capacity and L2 Residency Controls", True
)
_GA102 = Source("NVIDIA Ampere GA102 GPU Architecture, white paper", "appendix on RTX A6000", False)
_ADA_TUNING = Source("NVIDIA Ada GPU Architecture Tuning Guide", "1.4.2.1 Increased L2 Capacity", True)
_L40S = Source("NVIDIA L40S, data sheet", "18,176 CUDA cores, of which an SM has 128; 48 GB", False)
_H100 = Source("NVIDIA H100 Tensor Core GPU Architecture, white paper", "comparison of A100 and H100", False)
# The white papers give neither; this is what the driver says on the device.
_B200_DRIVER = Source("cudaGetDeviceProperties on a B200, in github.com/pytorch/ao/pull/4002", "description", True)
_DGX_B200 = Source("NVIDIA DGX B200, data sheet", "1,440 GB in eight GPUs", False)
_BLACKWELL_PRO = Source("NVIDIA RTX Blackwell PRO GPU Architecture, white paper", "RTX PRO 6000 Blackwell", False)
_ROCM_SPECS = Source("AMD ROCm documentation, GPU hardware specifications", "AMD Instinct and AMD Radeon GPUs", True)
_ROCM_RADEON = Source(
    "AMD ROCm documentation, GPU hardware specifications",
    "AMD Radeon GPUs: of a work-group processor, here the half of it",
    True,
)
_HIP_FEATURES = Source("AMD HIP documentation, Hardware features", "hardware-features-table", True)
_CDNA4_ISA = Source("AMD CDNA 4 Instruction Set Architecture, reference guide", "program organization", False)
_RDNA3_ISA = Source("AMD RDNA 3 Instruction Set Architecture, reference guide", "local data share", False)

_THREADS = ("max_threads_per_multiprocessor", "max_threads_per_block")
_LIMITS = (
    "warp_size",
    "shared_memory_per_block",
    "shared_memory_per_multiprocessor",
    "registers_per_multiprocessor",
    *_THREADS,
)
_SIZES = ("multiprocessors", "l2_cache", "memory")

_OF_ALL: Mapping[str, Mapping[str, Source]] = {
    "cuda": {"capability": _CUDA_GPUS} | dict.fromkeys(_LIMITS, _CCCL),
    "hip": dict.fromkeys((*_LIMITS, *_SIZES), _ROCM_SPECS) | dict.fromkeys(_THREADS, _HIP_FEATURES),
}

_OF_ONE: Mapping[str, Mapping[str, Source]] = {
    "cuda:sm_80": dict.fromkeys(_SIZES, _A100) | {"l2_cache": _AMPERE_TUNING},
    "cuda:sm_86": dict.fromkeys(_SIZES, _GA102),
    "cuda:sm_89": {"multiprocessors": _L40S, "l2_cache": _ADA_TUNING, "memory": _L40S},
    "cuda:sm_90": dict.fromkeys(_SIZES, _H100),
    "cuda:sm_100": {"multiprocessors": _B200_DRIVER, "l2_cache": _B200_DRIVER, "memory": _DGX_B200},
    "cuda:sm_120": dict.fromkeys(_SIZES, _BLACKWELL_PRO),
    "hip:gfx950": dict.fromkeys(_THREADS, _CDNA4_ISA),
    "hip:gfx1100": {
        "shared_memory_per_block": _RDNA3_ISA,
        "shared_memory_per_multiprocessor": _ROCM_RADEON,
        "registers_per_multiprocessor": _ROCM_RADEON,
    },
}

FIGURES = tuple(field.name for field in fields(Device) if field.name not in {"target", "name"})
"""The fields of a device that are figures, in the order of the table."""


def sources_of(target: Target) -> Mapping[str, Source]:
    """Return the source of each figure of a GPU target; KeyError for a target that is no GPU."""
    known = {**_OF_ALL[target.api], **_OF_ONE.get(target.spelling, {})}
    return {figure: known[figure] for figure in FIGURES if figure in known}
