"""What has to be installed to build for a target, and how to get what is not.

Invariant: looking imports none of it, so that a command can tell what is missing in no time.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from maxbuild.targets.environment import compiler_command
from maxbuild.targets.spelling import Target


@dataclass(frozen=True, slots=True)
class Part:
    """Something to install: what it is called, what it is needed for, and a way to get it."""

    name: str
    why: str
    install_hint: str


def missing_parts(target: Target) -> Sequence[Part]:
    """Return what is needed to build for `target` and is not installed here."""
    return [part for part, is_there in (*_FOR_ALL, *_FOR_GPUS.get(target.api, ())) if not is_there()]


def triton_folder() -> Path | None:
    """Return the folder of the package `triton`; None where it is not installed."""
    return next(iter(_folders_of("triton")), None)


def cccl_include() -> Path | None:
    """Return the folder of headers that has `nv/target`; None where no wheel brought it.

    That is `nvidia/cu13/include` of `nvidia-cuda-cccl`, and `nvidia/cuda_cccl/include` of `nvidia-cuda-cccl-cu12`.
    Other wheels may have put other headers of CUDA beside it.
    """
    headers = [header for folder in _folders_of("nvidia") for header in folder.glob("*/include/nv/target")]
    return min(headers).parent.parent if headers else None


@functools.cache
def cccl_wheel() -> str:
    """Return the name of the wheel that brought the header which `cccl_include` finds; the usual one's without it."""
    include = cccl_include()
    owners = [name for name in _CCCL_WHEELS if include is not None and _brought(name, include / "nv" / "target")]
    return (*owners, *_CCCL_WHEELS)[0]


def _brought(wheel: str, file: Path) -> bool:
    try:
        distribution = importlib.metadata.distribution(wheel)
    except importlib.metadata.PackageNotFoundError:
        return False
    folder = Path(str(distribution.locate_file("")))
    # Searched as one text, where `files` would parse thousands of lines: this runs at every start.
    listed = "\n" + (distribution.read_text("RECORD") or "")
    return file.is_relative_to(folder) and f"\n{file.relative_to(folder).as_posix()}," in listed


def _folders_of(package: str) -> list[Path]:
    """Return where a top-level package lies, several folders for one that many wheels share, without importing it."""
    found = importlib.util.find_spec(package)
    return [Path(place) for place in found.submodule_search_locations or ()] if found else []


def _has_torch() -> bool:
    return bool(_folders_of("torch"))


def _has_compiler() -> bool:
    return compiler_command() is not None


def _has_strip() -> bool:
    return shutil.which("strip") is not None


def _has_triton_for_cuda() -> bool:
    return _triton_has("nvidia/bin/ptxas", "nvidia/include/cuda.h")


def _has_triton_for_hip() -> bool:
    return _triton_has("amd/lib/ocml.bc", "amd/include/hip/hip_runtime.h")


def _triton_has(*files: str) -> bool:
    folder = triton_folder()
    return folder is not None and all((folder / "backends" / file).is_file() for file in files)


def _has_cccl() -> bool:
    return cccl_include() is not None


_CCCL_WHEELS = ("nvidia-cuda-cccl", "nvidia-cuda-cccl-cu12")
"""Of the newest CUDA, and of CUDA 12."""

# The bounds are those of pyproject.toml.
_TRITON_HINT = 'pip install "triton>=3.6,<3.8"'

_FOR_ALL: tuple[tuple[Part, Callable[[], bool]], ...] = (
    (Part("torch", "it makes C++ programs of models", 'pip install "torch>=2.11,<2.14"'), _has_torch),
    (
        Part(
            "C++ compiler",
            "it compiles those programs",
            "Debian, Ubuntu: `apt-get install g++`; Fedora: `dnf install gcc-c++`; or let CXX name one on the PATH",
        ),
        _has_compiler,
    ),
    (Part("strip", "it takes out of programs what only debuggers read", "install binutils"), _has_strip),
)

_FOR_GPUS: Mapping[str, tuple[tuple[Part, Callable[[], bool]], ...]] = {
    "cuda": (
        (
            Part("triton", "it compiles kernels, and has NVIDIA's assembler and headers", _TRITON_HINT),
            _has_triton_for_cuda,
        ),
        (Part("nvidia-cuda-cccl", "it has the header `nv/target`", "pip install nvidia-cuda-cccl"), _has_cccl),
    ),
    "hip": (
        (Part("triton", "it compiles kernels, and has AMD's libraries and headers", _TRITON_HINT), _has_triton_for_hip),
    ),
}
