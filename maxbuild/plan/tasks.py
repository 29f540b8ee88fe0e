"""One component's tasks: which options enter which task's document is decided here alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from maxbuild.engine import JSON, OutputOf, Result, SourceFile, Task
from maxbuild.manifest import ModelConfig
from maxbuild.plan.components import Component
from maxbuild.plan.kinds import toolchain_of
from maxbuild.targets.spelling import Target
from maxbuild.weights.selection import CONFIG

# What a process of each kind and its children hold at their peak (proportional set size), with a quarter to spare.
# Measured: the demo, random Llamas of 8 layers of 2048 and of 36 layers of 512; Python with torch is 400 MiB of each.
_MIB = 1 << 20
_TRACE_MEMORY = 768 * _MIB  # 435
_LOAD_MEMORY = 512 * _MIB  # 410, and the tensors that it casts
_CAST_AT_ONCE = 2048 * _MIB  # where the dtype is another; transformers' own conversions hold the whole model, untold
_REGION_MEMORY = 1024 * _MIB
_LIBRARY_MEMORY = 640 * _MIB
_WHOLE_MEMORY = 2048 * _MIB  # for 36 layers in one region
_WHOLE_LIBRARY_MEMORY = 2048 * _MIB

_REGIONS = "regions/"
_WEIGHTS = "weights/"


def package_name(target: str) -> str:
    """Return the name of the package task for a target."""
    return f"package @ {target}"


def compile_name(role: str, region: str, target: str) -> str:
    """Return the name of the task that compiles a region of a component for a target."""
    return f"compile {role}/{region} @ {target}"


def build_name(role: str, region: str, target: str) -> str:
    """Return the name of the task that builds the library of a region of a component for a target."""
    return f"build {role}/{region} @ {target}"


def trace_task(component: Component) -> Task:
    """Return the task that makes a component's program and regions of its config."""
    config = component.config
    return Task(
        name=component.trace_name,
        kind="trace",
        params={
            "encoding": config.quantization_encoding,
            "max_length": config.max_length,
            "use_subgraphs": config.use_subgraphs,
            "trust_remote_code": config.trust_remote_code,
        },
        inputs=_config_and_code(component),
        toolchain=toolchain_of("trace"),
        memory=_TRACE_MEMORY,
        outputs=("program", "regions/*"),
    )


def load_task(component: Component) -> Task:
    """Return the task that makes a component's packed weights of its weight files."""
    config = component.config
    weights = {f"{_WEIGHTS}{name}": component.sources[name] for name in component.files.weights}
    return Task(
        name=component.load_name,
        kind="load",
        params={"encoding": config.quantization_encoding, "trust_remote_code": config.trust_remote_code},
        inputs={**_config_and_code(component), **weights},
        toolchain=toolchain_of("load"),
        memory=_LOAD_MEMORY + min(component.weight_bytes, _CAST_AT_ONCE),
        outputs=("index", "weights/*"),
    )


def compile_task(component: Component, region: str, target: Target) -> Task:
    """Return the task that compiles a region of a component for a target."""
    params: dict[str, JSON] = {"target": target.spelling}
    # Other targets have no such thing, so what is made for them does not depend on it.
    if target.api == "cuda" and component.config.emit_ptx:
        params["emit_ptx"] = True
    return Task(
        name=compile_name(component.role, region, target.spelling),
        kind="compile",
        params=params,
        inputs={"region": OutputOf(component.trace_name, f"{_REGIONS}{region}")},
        toolchain=toolchain_of("compile", params),
        memory=_REGION_MEMORY if component.config.use_subgraphs else _WHOLE_MEMORY,
        outputs=("code", "recipe"),
    )


def build_task(component: Component, region: str, target: Target) -> Task:
    """Return the task that builds the library of a region of a component for a target."""
    params: dict[str, JSON] = {"api": target.api}
    return Task(
        name=build_name(component.role, region, target.spelling),
        kind="build",
        params=params,
        inputs={"recipe": OutputOf(compile_name(component.role, region, target.spelling), "recipe")},
        toolchain=toolchain_of("build", params),
        memory=_LIBRARY_MEMORY if component.config.use_subgraphs else _WHOLE_LIBRARY_MEMORY,
        outputs=("library",),
    )


def _config_and_code(component: Component) -> dict[str, SourceFile | OutputOf]:
    code = {f"code/{name}": component.sources[name] for name in component.files.code}
    return {CONFIG: component.sources[CONFIG], **code}


def package_inputs(
    component: Component, target: str, results: Mapping[str, Result]
) -> dict[str, SourceFile | OutputOf]:
    """Return what a package for `target` takes of a component, by path in the package."""
    role, trace, load = component.role, component.trace_name, component.load_name
    weights = [name for name in results[load].outputs if name.startswith(_WEIGHTS)]
    return {
        f"{role}/program.json": OutputOf(trace, "program"),
        f"{role}/weights.json": OutputOf(load, "index"),
        **{f"{role}/{name}": OutputOf(load, name) for name in weights},
        **{
            f"{role}/{part}/{region}": OutputOf(name(role, region, target), output)
            for region in regions_of(results[trace])
            for part, name, output in (("regions", compile_name, "code"), ("libraries", build_name, "library"))
        },
        **{f"{role}/{name}": component.sources[name] for name in (CONFIG, *component.files.serving)},
    }


def serving_options(config: ModelConfig) -> JSON:
    """Return what the package's header tells whoever serves the component."""
    return {"chat_template": config.chat_template, "served_model_name": config.served_model_name}


def regions_of(trace: Result | None) -> Iterable[str]:
    """Return the names of the regions that a trace left; none where it has not run."""
    outputs = trace.outputs if trace is not None else {}
    return [name.removeprefix(_REGIONS) for name in outputs if name.startswith(_REGIONS)]
