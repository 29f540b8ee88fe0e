"""The kinds of tasks, and which toolchain shapes the results of each."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import cast

from maxbuild.engine import JSON, Kind, Renewal
from maxbuild.steps.compile import COMPILERS
from maxbuild.targets.parts import cccl_wheel
from maxbuild.targets.spelling import Target, parse_target
from maxbuild.targets.toolchain import code_digest, compiler_version, library_versions

KINDS: Mapping[str, Kind] = {
    "download": Kind(
        "download", "maxbuild.steps.download:run", isolated=False, renewal=Renewal.DOWNLOAD, transfers=True
    ),
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
    "samplers": Kind(
        "samplers",
        "maxbuild.steps.samplers:run",
        isolated=True,
        toolchain="maxbuild.plan.kinds:toolchain_of",
        preload="maxbuild.steps.nursery:for_compiles",
    ),
    "match": Kind("match", "maxbuild.steps.match:run", isolated=False, renewal=Renewal.REPACK),
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


def toolchain_of(kind: str, params: Mapping[str, JSON] | None = None) -> Mapping[str, str]:
    """Return the toolchain of this host that shapes results of `kind`, for a task with these params.

    They tell the target of a compile, whose interface a build is for, and the libraries that custom architectures
    import.
    """
    libraries = [str(name) for name in cast("list[JSON]", (params or {}).get("libraries", []))]
    if kind == "compile":
        return _compile_toolchain(parse_target(str((params or {})["target"])))
    if kind == "build":
        return _compiler_toolchain(str((params or {})["api"]))
    libraries += {
        "trace": ("torch", "transformers", "sympy"),
        "load": ("torch", "transformers", "safetensors"),
        "samplers": ("torch", "sympy"),
        "match": (),
        "package": (),
    }[kind]
    python = {} if kind in {"match", "package"} else {"python": platform.python_version()}
    return {**library_versions(*libraries), **python, "maxbuild": code_digest(f"maxbuild.steps.{kind}")}


def _compiler_toolchain(api: str) -> Mapping[str, str]:
    return {
        # For their headers.
        **library_versions("torch", *_gpu_libraries(api)),
        "python": platform.python_version(),
        "compiler": compiler_version(),
        "maxbuild": code_digest("maxbuild.steps.build"),
    }


def _compile_toolchain(target: Target) -> Mapping[str, str]:
    return {
        **library_versions("torch", "sympy", *_gpu_libraries(target.api)),
        "python": platform.python_version(),
        "compiler": compiler_version(),
        "maxbuild": code_digest("maxbuild.steps.compile", COMPILERS[target.api]),
    }


def _gpu_libraries(api: str) -> tuple[str, ...]:
    """Return what shapes artifacts for GPUs alone: Triton with assemblers and headers in it, and a header of CUDA's."""
    match api:
        case "cuda":
            return ("triton", cccl_wheel())
        case "hip":
            return ("triton",)
        case _:
            return ()
