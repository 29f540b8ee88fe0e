"""ROCm's part in compiling a region, without ROCm: Triton's headers of HIP under CUDA's names, and stub libraries.

Inductor writes HIP's names into a region's code, but the headers of AOTInductor's runtime in a torch that was not built
for ROCm say CUDA's: torch's own build replaces them (torch/utils/hipify). Here two headers that those include,
`cuda.h` and `cuda_runtime.h`, give CUDA's names HIP's meaning. The list is what those headers and the code that torch
2.11 to 2.13 generate use; a name that is not in it fails to compile, and is never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from maxbuild.targets.toolkit import OWN_HEADERS, Toolkit

# What upstream links on a host with ROCm. Not amdhip64: its name holds ROCm's version, and torch_hip brings it.
_LIBRARIES: Mapping[str, str] = {"torch_hip": "libtorch_hip.so", "c10_hip": "libc10_hip.so"}

_NAMES: Mapping[str, str] = {
    **{f"cuda{name}": f"hip{name}" for name in (
        "DeviceSynchronize", "ErrorNotReady", "Error_t", "EventCreate", "EventDestroy", "EventQuery", "EventRecord",
        "EventSynchronize", "Event_t", "Free", "GetDevice", "GetErrorString", "GetLastError", "Malloc", "Memcpy",
        "MemcpyAsync", "MemcpyDefault", "MemcpyDeviceToDevice", "MemcpyDeviceToHost", "MemcpyHostToDevice",
        "MemcpyKind", "SetDevice", "StreamSynchronize", "Stream_t", "Success",
    )},
    **{f"cu{name}": f"hip{name}" for name in ("ModuleGetFunction", "ModuleLoad", "ModuleLoadData", "ModuleUnload")},
    "CUDA_SUCCESS": "hipSuccess",
    "CUdeviceptr": "hipDeviceptr_t",
    "CUfunction": "hipFunction_t",
    "CUmodule": "hipModule_t",
    "CUresult": "hipError_t",
    "cuGetErrorString": "hipDrvGetErrorString",
    "cuLaunchKernel": "hipModuleLaunchKernel",
}  # fmt: skip


def _make_headers(folder: Path) -> None:
    names = [f"#define {cuda} {hip}" for cuda, hip in sorted(_NAMES.items())]
    (folder / "cuda.h").write_text("\n".join(["#pragma once", "#include <hip/hip_runtime.h>", *names, ""]))
    for name in ("cuda_runtime.h", "cuda_runtime_api.h"):
        (folder / name).write_text('#include "cuda.h"\n')


TOOLKIT = Toolkit(
    ("USE_CUDA", "USE_ROCM", "__HIP_PLATFORM_AMD__"),
    (OWN_HEADERS, "{triton}/backends/amd/include"),
    _LIBRARIES,
    _make_headers,
)
