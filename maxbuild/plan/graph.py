"""The graph of a manifest's tasks: what is known at once, and what the results of traces and loads make known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from maxbuild.engine import JSON, Deferred, OutputOf, Result, SourceFile, Task
from maxbuild.manifest import Manifest
from maxbuild.plan.components import Component, find_components
from maxbuild.plan.kinds import toolchain_of
from maxbuild.plan.tasks import (
    build_task,
    compile_task,
    load_task,
    package_inputs,
    package_name,
    regions_of,
    serving_options,
    trace_task,
)
from maxbuild.targets.spelling import parse_target
from maxbuild.targets.toolchain import library_versions


def make_plan(manifest: Manifest, *, pin: bool = True, ask: bool = True) -> ManifestPlan:
    """Plan what `manifest` asks for; what `pin`, `ask` and the errors mean is said at `find_components`."""
    return ManifestPlan(manifest, find_components(manifest, pin=pin, ask=ask))


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
            known += [*component.downloads, trace_task(component), load_task(component)]
        return known

    def grow(self, results: Mapping[str, Result]) -> Sequence[Task]:
        """Return the compiles and builds that traces make known, and the packages that traces and loads make known."""
        tasks: list[Task] = []
        for component in self._components:
            for region in regions_of(results.get(component.trace_name)):
                for target in self._targets:
                    tasks += [compile_task(component, region, target), build_task(component, region, target)]
        if all(c.trace_name in results and c.load_name in results for c in self._components):
            tasks += [self._package_task(target.spelling, results) for target in self._targets]
        return tasks

    def deferred(self, results: Mapping[str, Result]) -> Sequence[Deferred]:
        """Return the compiles, builds and packages that cannot be known yet."""
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
            inputs.update(package_inputs(component, target, results))
        return Task(
            name=package_name(target),
            kind="package",
            params={
                "name": self.manifest.name,
                "target": target,
                "components": {c.role: serving_options(c.config) for c in self._components},
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
