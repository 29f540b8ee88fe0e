"""From a manifest and its lock to a graph of tasks: which options enter which task's document is decided here alone.

Invariant: a plan is a function of the manifest, the lock, the toolchain and the results known so far; it runs nothing.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from maxbuild.engine import JSON, Deferred, Kind, OutputOf, Renewal, Result, SourceFile, Task
from maxbuild.errors import UnsupportedModel
from maxbuild.manifest import HubRepository, LocalFolder, Manifest, ModelConfig
from maxbuild.steps.compile import COMPILERS
from maxbuild.targets.spelling import Target, parse_target
from maxbuild.targets.toolchain import code_digest, compiler_version, library_versions
from maxbuild.weights.selection import CONFIG, ComponentFiles, select_files

KINDS: Mapping[str, Kind] = {
    "download": Kind("download", "maxbuild.steps.download:run", isolated=False, renewal=Renewal.DOWNLOAD),
    "load": Kind("load", "maxbuild.steps.load:run", isolated=True, renewal=Renewal.REPACK),
    "trace": Kind("trace", "maxbuild.steps.trace:run", isolated=True, toolchain="maxbuild.plan:toolchain_of"),
    "compile": Kind("compile", "maxbuild.steps.compile:run", isolated=True, toolchain="maxbuild.plan:toolchain_of"),
    "package": Kind("package", "maxbuild.steps.package:run", isolated=False, renewal=Renewal.REPACK),
}

if TYPE_CHECKING:
    from maxbuild.lock import Lock

# What a process of each kind and its children hold at their peak (proportional set size), with a quarter to spare.
# Measured: the demo, random Llamas of 8 layers of 2048 and of 36 layers of 512; Python with torch is 400 MiB of each.
_MIB = 1 << 20
_TRACE_MEMORY = 768 * _MIB  # 435
_LOAD_MEMORY = 512 * _MIB  # 410, and the tensors that it casts
_CAST_AT_ONCE = 2048 * _MIB  # where the dtype is another; transformers' own conversions hold the whole model, untold
_REGION_MEMORY = 1280 * _MIB  # 1112: 690 of Python, the rest of the C++ compiler
_WHOLE_MEMORY = 3072 * _MIB  # 2035 for 36 layers in one region, 1252 for 12

# What shapes artifacts for GPUs alone: Triton with the assemblers and headers in it, and a header of CUDA's.
_GPU_LIBRARIES: Mapping[str, tuple[str, ...]] = {"cuda": ("triton", "nvidia-cuda-cccl"), "hip": ("triton",)}

_REGIONS = "regions/"
_WEIGHTS = "weights/"


@dataclass(frozen=True, slots=True)
class Component:
    """One model under its role: what the manifest says of it, and where each of its files comes from."""

    role: str
    config: ModelConfig
    files: ComponentFiles
    sources: Mapping[str, SourceFile | OutputOf]
    weight_bytes: int
    downloads: tuple[Task, ...] = ()

    @property
    def trace_name(self) -> str:
        """Return the name of the component's trace task."""
        return f"trace {self.role}"

    @property
    def load_name(self) -> str:
        """Return the name of the component's load task."""
        return f"load {self.role}"


def make_plan(manifest: Manifest, *, pin: bool = True, ask: bool = True) -> ManifestPlan:
    """Plan what `manifest` asks for; hub revisions that are not pinned yet are asked for.

    pin: write those into the lock file beside the manifest. ask: where it is False, WorkFound is raised instead of
    asking. Raise UnsupportedModel or WeightsError where a model's files cannot be used at all.
    """
    lock = _locked(manifest, pin=pin, ask=ask)
    components = [_component(role, config, lock) for role, config in manifest.models.items()]
    return ManifestPlan(manifest, components)


def _locked(manifest: Manifest, *, pin: bool, ask: bool) -> Lock | None:
    if not any(isinstance(config.source, HubRepository) for config in manifest.models.values()):
        return None
    from maxbuild.lock import lock_path, read_lock, write_lock  # noqa: PLC0415 - local models have no lock
    from maxbuild.resolve import require_pinned, resolve  # noqa: PLC0415

    path = lock_path(manifest.path)
    known = read_lock(path)
    if not ask:
        require_pinned(manifest, known)
        return known
    lock = resolve(manifest, known)
    if pin and lock != known:
        write_lock(path, lock)
    return lock


def _component(role: str, config: ModelConfig, lock: Lock | None) -> Component:
    match config.source:
        case LocalFolder(path):
            folder = path / (config.subfolder or "")
            files = select_files(_names_in(folder), config.model_path, trust_remote_code=config.trust_remote_code)
            sources = {name: SourceFile(folder / name) for name in files.names}
            return Component(role, config, files, sources, sum(_size(folder / name) for name in files.weights))
        case HubRepository():
            assert lock is not None
            return _hub_component(role, config, lock)


def _hub_component(role: str, config: ModelConfig, lock: Lock) -> Component:
    from maxbuild.steps.download import FILE, download_task  # noqa: PLC0415 - a local model needs nothing of a hub

    repository = lock.repository(config)
    prefix = f"{config.subfolder.strip('/')}/" if config.subfolder else ""
    locked = {file.path.removeprefix(prefix): file for file in repository.files if file.path.startswith(prefix)}
    files = select_files(locked, config.model_path, trust_remote_code=config.trust_remote_code)
    downloads = {name: download_task(repository, locked[name], role) for name in files.names}
    sources = {name: OutputOf(task.name, FILE) for name, task in downloads.items()}
    weight_bytes = sum(locked[name].size for name in files.weights)
    return Component(role, config, files, sources, weight_bytes, tuple(downloads.values()))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # the task that reads it tells what is wrong
        return 0


def _names_in(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir() if entry.is_file()]
    except OSError as error:
        raise UnsupportedModel(f"could not read the model folder {folder}", causes=[str(error)]) from error


class ManifestPlan:
    """The tasks of one manifest. What a trace or a load leaves makes the tasks after it known."""

    def __init__(self, manifest: Manifest, components: Sequence[Component]) -> None:
        """Plan for `components`."""
        self.manifest = manifest
        self._components = components
        self._targets = [parse_target(text) for text in manifest.targets]

    @property
    def tasks(self) -> Sequence[Task]:
        """Return the tasks that the manifest alone makes known."""
        known: list[Task] = []
        for component in self._components:
            known += [*component.downloads, _trace_task(component), _load_task(component)]
        return known

    def grow(self, results: Mapping[str, Result]) -> Sequence[Task]:
        """Return the compiles that traces make known, and the packages that traces and loads make known."""
        tasks: list[Task] = []
        for component in self._components:
            for region in _regions(results.get(component.trace_name)):
                tasks += [_compile_task(component, region, target) for target in self._targets]
        if all(c.trace_name in results and c.load_name in results for c in self._components):
            tasks += [self._package_task(target.spelling, results) for target in self._targets]
        return tasks

    def deferred(self, results: Mapping[str, Result]) -> Sequence[Deferred]:
        """Return the compiles and packages that cannot be known yet."""
        untraced = [component for component in self._components if component.trace_name not in results]
        unknown = [Deferred(component.trace_name, f"compile × regions of {component.role} × {len(self._targets)} target"
                            + ("s" if len(self._targets) > 1 else "")) for component in untraced]  # fmt: skip
        waiting = next((c.load_name for c in self._components if c.load_name not in results), None)
        last = untraced[-1].trace_name if untraced else waiting
        return unknown + [Deferred(last, package_name(target.spelling)) for target in self._targets if last]

    def package_tasks(self) -> Mapping[str, str]:
        """Return for each target the name of its package task."""
        return {target.spelling: package_name(target.spelling) for target in self._targets}

    def _package_task(self, target: str, results: Mapping[str, Result]) -> Task:
        inputs: dict[str, SourceFile | OutputOf] = {}
        for component in self._components:
            inputs.update(_package_inputs(component, target, results))
        return Task(
            name=package_name(target),
            kind="package",
            params={
                "name": self.manifest.name,
                "target": target,
                "components": {c.role: _serving_options(c.config) for c in self._components},
                "speculative": self._speculative(),
                "built_with": dict(library_versions("torch", "transformers")),
            },
            inputs=inputs,
            toolchain=toolchain_of("package"),
            outputs=("package", "files/*"),
        )

    def _speculative(self) -> JSON:
        speculative = self.manifest.speculative
        return None if speculative is None else speculative.model_dump(mode="json")


def package_name(target: str) -> str:
    """Return the name of the package task for a target."""
    return f"package @ {target}"


def compile_name(role: str, region: str, target: str) -> str:
    """Return the name of the task that compiles a region of a component for a target."""
    return f"compile {role}/{region} @ {target}"


def _trace_task(component: Component) -> Task:
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


def _load_task(component: Component) -> Task:
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


def _compile_task(component: Component, region: str, target: Target) -> Task:
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
        outputs=("artifact",),
    )


def _config_and_code(component: Component) -> dict[str, SourceFile | OutputOf]:
    code = {f"code/{name}": component.sources[name] for name in component.files.code}
    return {CONFIG: component.sources[CONFIG], **code}


def _package_inputs(
    component: Component, target: str, results: Mapping[str, Result]
) -> dict[str, SourceFile | OutputOf]:
    role, trace, load = component.role, component.trace_name, component.load_name
    weights = [name for name in results[load].outputs if name.startswith(_WEIGHTS)]
    return {
        f"{role}/program.json": OutputOf(trace, "program"),
        f"{role}/weights.json": OutputOf(load, "index"),
        **{f"{role}/{name}": OutputOf(load, name) for name in weights},
        **{
            f"{role}/regions/{region}": OutputOf(compile_name(role, region, target), "artifact")
            for region in _regions(results[trace])
        },
        **{f"{role}/{name}": component.sources[name] for name in (CONFIG, *component.files.serving)},
    }


def toolchain_of(kind: str, params: Mapping[str, JSON] | None = None) -> Mapping[str, str]:
    """Return the toolchain of this host that shapes results of `kind`, for a compile of the target in `params`."""
    if kind == "compile":
        return _compile_toolchain(parse_target(str((params or {})["target"])))
    libraries = {
        "trace": ("torch", "transformers", "sympy"),
        "load": ("torch", "transformers", "safetensors"),
        "package": (),
    }[kind]
    python = {} if kind == "package" else {"python": platform.python_version()}
    return {**library_versions(*libraries), **python, "maxbuild": code_digest(f"maxbuild.steps.{kind}")}


def _compile_toolchain(target: Target) -> Mapping[str, str]:
    return {
        **library_versions("torch", "sympy", *_GPU_LIBRARIES.get(target.api, ())),
        "python": platform.python_version(),
        "compiler": compiler_version(),
        "maxbuild": code_digest("maxbuild.steps.compile", COMPILERS[target.api]),
    }


def _serving_options(config: ModelConfig) -> JSON:
    return {"chat_template": config.chat_template, "served_model_name": config.served_model_name}


def _regions(trace: Result | None) -> Iterable[str]:
    outputs = trace.outputs if trace is not None else {}
    return [name.removeprefix(_REGIONS) for name in outputs if name.startswith(_REGIONS)]
