"""One component's tasks: what each consumes and leaves, and how much memory it takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from maxbuild.architectures.families import FAMILIES
from maxbuild.engine import JSON, OutputOf, Result, SourceFile, Task
from maxbuild.manifest import Manifest, TaskKind
from maxbuild.manifest.options import COMPILE
from maxbuild.plan.components import Component
from maxbuild.plan.kinds import toolchain_of
from maxbuild.plan.parameters import parameters, section_parameters
from maxbuild.targets.spelling import Target, parse_target
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

_ARCHITECTURES = "architectures/"
_LIBRARIES = "libraries/"
_REGIONS = "regions/"
_WEIGHTS = "weights/"


def package_name(target: str) -> str:
    """Return the name of the package task for a target."""
    return f"package @ {target}"


def compile_name(role: str, region: str, target: str) -> str:
    """Return the name of the task that compiles a region of a component for a target."""
    return f"compile {role}/{region} @ {target}"


def build_name(compiled: str) -> str:
    """Return the name of the task that builds the library of what the task named `compiled` compiles."""
    return f"build {compiled.removeprefix('compile ')}"


def trace_task(manifest: Manifest, component: Component) -> Task:
    """Return the task that makes a component's program and regions of its config."""
    params = {**parameters(manifest, component.role, TaskKind.TRACE), **_libraries(manifest)}
    return Task(
        name=component.trace_name,
        kind="trace",
        params=params,
        inputs={**_config_and_code(component), **architecture_inputs(manifest)},
        toolchain=toolchain_of("trace", params),
        memory=_TRACE_MEMORY,
        outputs=("program", "regions/*", *(("lowerings/*",) if manifest.architectures else ())),
    )


def load_task(manifest: Manifest, component: Component) -> Task:
    """Return the task that makes a component's packed weights of its weight files."""
    params = {**parameters(manifest, component.role, TaskKind.LOAD), **_libraries(manifest)}
    weights = {f"{_WEIGHTS}{name}": component.sources[name] for name in component.files.weights}
    return Task(
        name=component.load_name,
        kind="load",
        params=params,
        inputs={**_config_and_code(component), **weights, **architecture_inputs(manifest)},
        toolchain=toolchain_of("load", params),
        memory=_LOAD_MEMORY + min(component.weight_bytes, _CAST_AT_ONCE),
        outputs=("index", "weights/*"),
    )


def compile_task(manifest: Manifest, component: Component, region: str, target: Target, trace: Result) -> Task:
    """Return the task that compiles a region of a component for a target; trace: what the component's trace left."""
    compiled = region_compile(manifest, component.role, component.trace_name, region, target)
    return replace(
        compiled,
        inputs={**compiled.inputs, **_lowerings(component, region, target, trace)},
        memory=_REGION_MEMORY if component.config.use_subgraphs else _WHOLE_MEMORY,
    )


def region_compile(manifest: Manifest, owner: str, trace: str, region: str, target: Target) -> Task:
    """Return the task that compiles a region that the task `trace` leaves; owner: a role, or the samplers."""
    options = section_parameters(manifest, COMPILE, TaskKind.COMPILE, target.api)
    params: dict[str, JSON] = {"target": target.spelling, **options}
    return Task(
        name=compile_name(owner, region, target.spelling),
        kind="compile",
        params=params,
        inputs={"region": OutputOf(trace, f"{_REGIONS}{region}")},
        toolchain=toolchain_of("compile", params),
        memory=_REGION_MEMORY,
        outputs=("code", "recipe"),
    )


def build_task(compiled: Task) -> Task:
    """Return the task that builds the library of what the task `compiled` compiles."""
    params: dict[str, JSON] = {"api": parse_target(str(compiled.params["target"])).api}
    return Task(
        name=build_name(compiled.name),
        kind="build",
        params=params,
        inputs={"recipe": OutputOf(compiled.name, "recipe")},
        toolchain=toolchain_of("build", params),
        memory=_WHOLE_LIBRARY_MEMORY if compiled.memory > _REGION_MEMORY else _LIBRARY_MEMORY,
        outputs=("library",),
    )


def region_inputs(place: str, compiled: str) -> Mapping[str, SourceFile | OutputOf]:
    """Return the two halves of a region that a package takes as `place`; `compiled` is the name of its compile."""
    return {place: OutputOf(compiled, "code"), f"{_LIBRARIES}{place}": OutputOf(build_name(compiled), "library")}


def architecture_inputs(manifest: Manifest) -> dict[str, SourceFile | OutputOf]:
    """Return the source of custom architectures as inputs: by the module, and the file's path as the module sees it."""
    return {
        f"{_ARCHITECTURES}{module.name}/{file}": SourceFile(path)
        for module in manifest.architectures
        for file, path in module.files.items()
    }


def _libraries(manifest: Manifest) -> dict[str, JSON]:
    """Name the libraries that custom architectures import, for their versions to be in the toolchain."""
    libraries = sorted({library for module in manifest.architectures for library in module.libraries})
    return {"libraries": [*libraries]} if libraries else {}


def _lowerings(component: Component, region: str, target: Target, trace: Result) -> dict[str, SourceFile | OutputOf]:
    """Return the lowerings of a region's own operators for a target, where it has any."""
    output = f"lowerings/{FAMILIES[target.api]}/{region}"
    return {"lowerings": OutputOf(component.trace_name, output)} if output in trace.outputs else {}


def _config_and_code(component: Component) -> dict[str, SourceFile | OutputOf]:
    """Return what says which model is built: its config, its own code, and how it pools."""
    code = {f"code/{name}": component.sources[name] for name in component.files.code}
    pooling = {f"pooling/{name}": component.sources[name] for name in component.files.pooling}
    return {CONFIG: component.sources[CONFIG], **code, **pooling}


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
        **_region_inputs(component, target, results[trace]),
        **{f"{role}/{name}": component.sources[name] for name in (CONFIG, *component.files.serving)},
    }


def _region_inputs(component: Component, target: str, trace: Result) -> Mapping[str, SourceFile | OutputOf]:
    inputs: dict[str, SourceFile | OutputOf] = {}
    for region in regions_of(trace):
        inputs |= region_inputs(f"{component.role}/{_REGIONS}{region}", compile_name(component.role, region, target))
    return inputs


def regions_of(trace: Result) -> Iterable[str]:
    """Return the names of the regions that a trace left."""
    return [name.removeprefix(_REGIONS) for name in trace.outputs if name.startswith(_REGIONS)]
