"""The kinds of tasks, and which toolchain shapes the results of each."""

from __future__ import annotations

import platform
from collections.abc import Mapping

from maxbuild.engine import JSON, Kind, Renewal
from maxbuild.steps.compile import COMPILERS
from maxbuild.targets.spelling import Target, parse_target
from maxbuild.targets.toolchain import code_digest, compiler_version, library_versions

KINDS: Mapping[str, Kind] = {
    "download": Kind("download", "maxbuild.steps.download:run", isolated=False, renewal=Renewal.DOWNLOAD),
    "load": Kind(
        "load",
        "maxbuild.steps.load:run",
        isolated=True,
        renewal=Renewal.REPACK,
        preload="maxbuild.steps.nursery:for_models",
    ),
    "trace": Kind(
        "trace",
        "maxbuild.steps.trace:run",
        isolated=True,
        toolchain="maxbuild.plan.kinds:toolchain_of",
        preload="maxbuild.steps.nursery:for_models",
    ),
    "compile": Kind(
        "compile",
        "maxbuild.steps.compile:run",
        isolated=True,
        toolchain="maxbuild.plan.kinds:toolchain_of",
        preload="maxbuild.steps.nursery:for_compiles",
    ),
    "build": Kind("build", "maxbuild.steps.build:run", isolated=True, toolchain="maxbuild.plan.kinds:toolchain_of"),
    "package": Kind("package", "maxbuild.steps.package:run", isolated=False, renewal=Renewal.REPACK),
}

# What shapes artifacts for GPUs alone: Triton with the assemblers and headers in it, and a header of CUDA's.
_GPU_LIBRARIES: Mapping[str, tuple[str, ...]] = {"cuda": ("triton", "nvidia-cuda-cccl"), "hip": ("triton",)}


def toolchain_of(kind: str, params: Mapping[str, JSON] | None = None) -> Mapping[str, str]:
    """Return the toolchain of this host that shapes results of `kind`, for what `params` say."""
    if kind == "compile":
        return _compile_toolchain(parse_target(str((params or {})["target"])))
    if kind == "build":
        return _compiler_toolchain(str((params or {})["api"]))
    libraries = {
        "trace": ("torch", "transformers", "sympy"),
        "load": ("torch", "transformers", "safetensors"),
        "package": (),
    }[kind]
    python = {} if kind == "package" else {"python": platform.python_version()}
    return {**library_versions(*libraries), **python, "maxbuild": code_digest(f"maxbuild.steps.{kind}")}


def _compiler_toolchain(api: str) -> Mapping[str, str]:
    return {
        # For their headers.
        **library_versions("torch", *_GPU_LIBRARIES.get(api, ())),
        "python": platform.python_version(),
        "compiler": compiler_version(),
        "maxbuild": code_digest("maxbuild.steps.build"),
    }


def _compile_toolchain(target: Target) -> Mapping[str, str]:
    return {
        **library_versions("torch", "sympy", *_GPU_LIBRARIES.get(target.api, ())),
        "python": platform.python_version(),
        "compiler": compiler_version(),
        "maxbuild": code_digest("maxbuild.steps.compile", COMPILERS[target.api]),
    }
