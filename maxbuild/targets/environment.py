"""The environment of a compile: emptied of whatever steers Inductor or the C++ compiler and stands in no key.

Invariant: this module imports nothing of torch, so that it can run before torch reads the environment.
"""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

# Variables by which a user, or a shell's profile, could change what is compiled without changing any key.
_STEERING = ("TORCHINDUCTOR_", "AOT_INDUCTOR_", "TORCH_COMPILE_", "INDUCTOR_", "ATEN_CPU_CAPABILITY")
_STEERING_COMPILERS = frozenset(
    {"CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "LIBRARY_PATH", "COMPILER_PATH", "GCC_EXEC_PREFIX", "CFLAGS"}
    | {"CXXFLAGS", "CPPFLAGS", "LDFLAGS", "SOURCE_DATE_EPOCH"}
)


def clear_environment() -> None:
    """Drop the variables that steer Inductor or the C++ compiler beside the options given here."""
    for name in list(os.environ):
        if name.startswith(_STEERING) or name in _STEERING_COMPILERS:
            del os.environ[name]


def use_folder(folder: Path) -> None:
    """Let Inductor keep sources, objects and kernels in `folder`; call it before torch is imported."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)


def compiler_command() -> tuple[str, ...] | None:
    """Return the C++ compiler as `CXX` spells it (`ccache g++`, say; default `g++`), or None where it is not there."""
    words = shlex.split(os.environ.get("CXX") or "g++")
    found = shutil.which(words[0])
    return None if found is None else (found, *words[1:])
