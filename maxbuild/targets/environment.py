"""The environment of a compile: emptied of whatever steers Inductor, Triton or a compiler and stands in no key.

Invariant: this module imports nothing of torch, so that it can run before torch reads the environment.
"""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

from maxbuild.errors import TaskFailed

# Variables by which a user, or a shell's profile, could change what is compiled without changing any key.
_STEERING = (
    *("TORCHINDUCTOR_", "AOT_INDUCTOR_", "TORCH_COMPILE_", "INDUCTOR_", "ATEN_CPU_CAPABILITY"),
    # Triton's, and those of the compilers inside it; most are listed in triton/knobs.py.
    *("TRITON_", "LLVM_", "MLIR_", "AMDGCN_", "NVPTX_", "PTXAS_", "DISABLE_PTXAS_OPT", "USE_IR_LOC"),
    *("CUDA_", "CUDNN_", "NVIDIA_TF32_OVERRIDE", "TORCH_CUDA_", "ROCM_", "HIP_", "HSA_", "PYTORCH_ROCM_ARCH"),
)
_STEERING_COMPILERS = frozenset(
    {"CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "LIBRARY_PATH", "COMPILER_PATH", "GCC_EXEC_PREFIX", "CFLAGS"}
    | {"CXXFLAGS", "CPPFLAGS", "LDFLAGS", "SOURCE_DATE_EPOCH"}
)

# What a compile must not see: targets are known from a table, so that all hosts build alike.
_HIDDEN_DEVICES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


def clear_environment() -> None:
    """Drop the variables that steer Inductor, Triton or a compiler beside the options given here; hide all GPUs."""
    for name in list(os.environ):
        if name.startswith(_STEERING) or name in _STEERING_COMPILERS:
            del os.environ[name]
    # No number of a device: the list of visible ones ends at the first that does not exist (CUDA C++ Programming Guide,
    # "CUDA Environment Variables").
    os.environ.update(dict.fromkeys(_HIDDEN_DEVICES, "-1"))


def use_folder(folder: Path) -> None:
    """Let Inductor and Triton keep sources, objects and kernels in `folder`; call it before torch is imported."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
    os.environ["TRITON_CACHE_DIR"] = str(folder / "triton")
    # Where Triton would look for what a user put there to take a kernel's place.
    os.environ["TRITON_HOME"] = str(folder)
    # Source lines, which name files of this host, would enter every kernel.
    os.environ["TRITON_DISABLE_LINE_INFO"] = "1"


def compiler_command() -> tuple[str, ...] | None:
    """Return the C++ compiler as `CXX` spells it (`ccache g++`, say; default `g++`), or None where it is not there."""
    words = shlex.split(os.environ.get("CXX") or "g++")
    found = shutil.which(words[0])
    return None if found is None else (found, *words[1:])


def require_compiler() -> tuple[str, ...]:
    """Return the C++ compiler as `compiler_command` does; raise TaskFailed where it is not there."""
    command = compiler_command()
    if command is None:
        raise TaskFailed(
            f"no C++ compiler: `{os.environ.get('CXX') or 'g++'}` is not on the PATH",
            hint="install one (Debian, Ubuntu: `apt-get install g++`; Fedora: `dnf install gcc-c++`), or set CXX",
        )
    return command
