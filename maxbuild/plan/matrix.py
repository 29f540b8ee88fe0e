"""One graph for all variants of a manifest: what is the same in several of them is one task.

Variants share what their documents have in common: a download always, a load where the encoding is one, a trace where
nothing that shapes the graph differs. So a task of a variant takes the name of the variants that have the very same
task, `load main [float32]`, and its plain name, `load main`, where all of them do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from maxbuild.engine import Deferred, OutputOf, Result, Task, canonical_json
from maxbuild.manifest import Manifest
from maxbuild.plan.components import Component
from maxbuild.plan.graph import ManifestPlan

_Identity: TypeAlias = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class VariantPlan:
    """What one variant leaves in the common graph: its manifest, and by target the names of its package tasks."""

    manifest: Manifest
    tasks: Mapping[str, str]

    def package_tasks(self) -> Mapping[str, str]:
        """Return for each target the name of its package task."""
        return self.tasks


@dataclass(slots=True)
class _Variant:
    """One variant: its own plan, and for each of its tasks the task, what it is, and its name in the common graph."""

    plan: ManifestPlan
    tasks: dict[str, Task] = field(default_factory=dict)
    identities: dict[str, _Identity] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def identity(self, name: str) -> _Identity:
        """Return what the task called `name` is, whatever it and those it consumes from are called."""
        known = self.identities.get(name)
        if known is None:
            task = self.tasks[name]
            inputs = tuple(
                (role, self.identity(source.task), source.output) if isinstance(source, OutputOf) else (role, source)
                for role, source in sorted(task.inputs.items())
            )
            document = canonical_json({"params": dict(task.params), "toolchain": dict(task.toolchain)})
            known = self.identities[name] = (task.kind, document, inputs, task.outputs)
        return known

    def seen(self, results: Mapping[str, Result]) -> dict[str, Result]:
        """Return those of `results` that are the variant's, by its own names."""
        return {own: results[name] for own, name in self.names.items() if name in results}


class MatrixPlan:
    """The tasks of all variants of one manifest."""

    def __init__(self, manifest: Manifest, plans: Sequence[ManifestPlan]) -> None:
        """Plan for the variants that `plans` are of; `manifest` has the name of the whole."""
        self.manifest = manifest
        self._variants = [_Variant(plan) for plan in plans]
        self._labels = [plan.manifest.variant for plan in plans]
        self._names: dict[_Identity, str] = {}

    @property
    def variants(self) -> Sequence[VariantPlan]:
        """Return what each variant leaves."""
        return [
            VariantPlan(
                variant.plan.manifest,
                {target: self._called(name, {index}) for target, name in variant.plan.package_tasks().items()},
            )
            for index, variant in enumerate(self._variants)
        ]

    @property
    def components(self) -> Sequence[Component]:
        """Return the components of all variants."""
        return [component for variant in self._variants for component in variant.plan.components]

    @property
    def tasks(self) -> Sequence[Task]:
        """Return the tasks that the manifest alone makes known."""
        return self._together([variant.plan.tasks for variant in self._variants])

    def grow(self, results: Mapping[str, Result]) -> Sequence[Task]:
        """Return the tasks that results make known in any of the variants."""
        return self._together([variant.plan.grow(variant.seen(results)) for variant in self._variants])

    def deferred(self, results: Mapping[str, Result]) -> Sequence[Deferred]:
        """Return what cannot be known yet, told once where several variants wait for the same."""
        waiting: dict[Deferred, set[int]] = {}
        for index, variant in enumerate(self._variants):
            for part in variant.plan.deferred(variant.seen(results)):
                waiting.setdefault(part._replace(after=variant.names[part.after]), set()).add(index)
        return [part._replace(what=self._called(part.what, indices)) for part, indices in waiting.items()]

    def package_tasks(self) -> Mapping[str, str]:
        """Return for each target of each variant the name of its package task."""
        return {
            f"{target} [{label}]": name
            for label, variant in zip(self._labels, self.variants, strict=True)
            for target, name in variant.package_tasks().items()
        }

    def _together(self, tasks: Sequence[Sequence[Task]]) -> Sequence[Task]:
        """Return the tasks of all variants in the names of the common graph, each once."""
        alike: dict[_Identity, set[int]] = {}
        for index, (variant, own) in enumerate(zip(self._variants, tasks, strict=True)):
            variant.tasks.update((task.name, task) for task in own)
            for task in own:
                alike.setdefault(variant.identity(task.name), set()).add(index)
        together: dict[str, Task] = {}
        for variant, own in zip(self._variants, tasks, strict=True):
            for task in own:
                identity = variant.identity(task.name)
                name = self._names.setdefault(identity, self._called(task.name, alike[identity]))
                variant.names[task.name] = name
            for task in own:
                name = variant.names[task.name]
                together.setdefault(name, _renamed(task, name, variant.names))
        return list(together.values())

    def _called(self, name: str, indices: Iterable[int]) -> str:
        """Return what `name` is called that some variants share: by the values that they alone have in common."""
        chosen = sorted(indices)
        if len(chosen) == len(self._labels):
            return name
        parts = [label.split(",") for label in self._labels]
        common = [part for part in parts[chosen[0]] if all(part in parts[index] for index in chosen)]
        if [index for index, own in enumerate(parts) if set(common) <= set(own)] == chosen:
            return f"{name} [{','.join(common)}]"
        return f"{name} [{' '.join(self._labels[index] for index in chosen)}]"


def _renamed(task: Task, name: str, names: Mapping[str, str]) -> Task:
    inputs = {
        role: OutputOf(names[source.task], source.output) if isinstance(source, OutputOf) else source
        for role, source in task.inputs.items()
    }
    return replace(task, name=name, inputs=inputs)
