"""The graph of a manifest's tasks: what is known at once, and what the results of traces and loads make known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from maxbuild.engine import Deferred, Result, Task
from maxbuild.manifest import Manifest, TaskKind
from maxbuild.plan.alternatives import alternative_inputs, alternative_tasks, told
from maxbuild.plan.components import Component, components_of, find_components, lock_of
from maxbuild.plan.kinds import toolchain_of
from maxbuild.plan.parameters import parameters, serving_options
from maxbuild.plan.samplers import (
    SAMPLERS,
    match_inputs,
    match_tasks,
    sampler_compiles,
    sampler_inputs,
    sampler_tasks,
    speculative_entry,
)
from maxbuild.plan.tasks import (
    architecture_inputs,
    build_task,
    compile_task,
    load_task,
    package_inputs,
    package_name,
    regions_of,
    trace_task,
)
from maxbuild.targets.spelling import parse_target
from maxbuild.targets.toolchain import library_versions

if TYPE_CHECKING:
    from maxbuild.plan.matrix import MatrixPlan


def make_plan(
    manifest: Manifest, *, pin: bool = True, ask: bool = True, locked: bool = False
) -> ManifestPlan | MatrixPlan:
    """Plan what `manifest` asks for; what `pin`, `ask`, `locked` and the errors mean is said at `find_components`."""
    if not manifest.variants:
        return ManifestPlan(manifest, find_components(manifest, pin=pin, ask=ask, locked=locked))
    from maxbuild.plan.matrix import MatrixPlan  # noqa: PLC0415 - few manifests have a matrix

    lock = lock_of(manifest, pin=pin, ask=ask, locked=locked)
    return MatrixPlan(manifest, [ManifestPlan(variant, components_of(variant, lock)) for variant in manifest.variants])


class ManifestPlan:
    """The tasks of one manifest. What a trace or a load leaves makes the tasks after it known."""

    def __init__(self, manifest: Manifest, components: Sequence[Component]) -> None:
        """Plan for `components`."""
        self.manifest = manifest
        self._components = components
        self._targets = [parse_target(text) for text in manifest.targets]

    @property
    def variants(self) -> Sequence[ManifestPlan]:
        """Return the plan of each variant; without a matrix there is one."""
        return (self,)

    @property
    def components(self) -> Sequence[Component]:
        """Return the components, in the order of the manifest."""
        return self._components

    @property
    def tasks(self) -> Sequence[Task]:
        """Return the tasks that the manifest alone makes known."""
        known: list[Task] = [*match_tasks(self.manifest, self._components)]
        for component in self._components:
            known += [
                *component.downloads,
                trace_task(self.manifest, component),
                load_task(self.manifest, component),
            ]
        return [*known, *sampler_tasks(self.manifest, self._components)]

    def grow(self, results: Mapping[str, Result]) -> Sequence[Task]:
        """Return the compiles and builds that traces make known, and the packages that traces and loads make known."""
        compiles: list[Task] = []
        for component in self._components:
            trace = results.get(component.trace_name)
            if trace is not None:
                for region in regions_of(trace):
                    for target in self._targets:
                        default = compile_task(self.manifest, component, region, target, trace)
                        compiles += [default, *alternative_tasks(self.manifest, default, target)]
        for target in self._targets:
            compiles += sampler_compiles(self.manifest, results.get(SAMPLERS), target)
        tasks = [task for compiled in compiles for task in (compiled, build_task(compiled))]
        if self._last_waiting(results) is None:
            tasks += [self._package_task(target.spelling, results) for target in self._targets]
        return tasks

    def deferred(self, results: Mapping[str, Result]) -> Sequence[Deferred]:
        """Return the compiles, builds and packages that cannot be known yet."""
        targets = f"{len(self._targets)} target" + ("s" if len(self._targets) > 1 else "")
        more = told(self.manifest, self._targets)
        unknown = [
            Deferred(component.trace_name, f"compile × regions of {component.role} × {targets}{more}")
            for component in self._components
            if component.trace_name not in results
        ]
        if self._waits_for_samplers(results):
            unknown.append(Deferred(SAMPLERS, f"compile × {SAMPLERS} × {targets}"))
        last = self._last_waiting(results)
        return unknown + [Deferred(last, package_name(target.spelling)) for target in self._targets if last]

    def _last_waiting(self, results: Mapping[str, Result]) -> str | None:
        """Return the last task whose result packages have to wait for; None where all are there."""
        untraced = [component.trace_name for component in self._components if component.trace_name not in results]
        unloaded = [component.load_name for component in self._components if component.load_name not in results]
        samplers = [SAMPLERS] if self._waits_for_samplers(results) else []
        return next(iter([*reversed(untraced), *unloaded, *samplers]), None)

    def _waits_for_samplers(self, results: Mapping[str, Result]) -> bool:
        return SAMPLERS not in results and bool(sampler_tasks(self.manifest, self._components))

    def package_tasks(self) -> Mapping[str, str]:
        """Return for each target the name of its package task."""
        return {target.spelling: package_name(target.spelling) for target in self._targets}

    def _package_task(self, target: str, results: Mapping[str, Result]) -> Task:
        inputs = architecture_inputs(self.manifest)
        for component in self._components:
            inputs.update(package_inputs(component, target, results))
            inputs.update(alternative_inputs(self.manifest, component.role, target, results[component.trace_name]))
        inputs.update(sampler_inputs(results.get(SAMPLERS), target))
        inputs.update(match_inputs(self.manifest))
        return Task(
            name=package_name(target),
            kind="package",
            params={
                "name": self.manifest.name,
                "target": target,
                "components": {c.role: parameters(self.manifest, c.role, TaskKind.PACKAGE) for c in self._components},
                "serving": serving_options(self.manifest),
                "speculative": speculative_entry(self.manifest.speculative),
                "built_with": dict(library_versions("torch", "transformers")),
            },
            inputs=inputs,
            toolchain=toolchain_of("package"),
            outputs=("package", "files/*"),
        )
