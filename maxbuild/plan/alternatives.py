"""Alternatives: a region compiled again for a GPU, with the next best configurations of its kernels, to be timed there.

Invariant: they change no document of a compile that is there without them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from maxbuild.engine import OutputOf, Result, SourceFile, Task
from maxbuild.manifest import Manifest
from maxbuild.manifest.options import COMPILE, get_option
from maxbuild.plan.tasks import compile_name, region_inputs, regions_of
from maxbuild.targets.spelling import Target, parse_target

OPTION = "alternatives"


def ranks(manifest: Manifest, target: Target) -> range:
    """Return the ranks that a package for `target` has beside the best one; none for CPUs, which have no choice."""
    wanted = manifest.compile.alternatives if get_option(COMPILE, OPTION).concerns(target.api) else 0
    return range(1, wanted + 1)


def alternative_tasks(manifest: Manifest, default: Task, target: Target) -> Iterator[Task]:
    """Yield the compiles of the alternatives to what the task `default` compiles for `target`."""
    for rank in ranks(manifest, target):
        yield replace(default, name=alternative_name(default.name, rank), params={**default.params, "rank": rank})


def alternative_name(default: str, rank: int) -> str:
    """Return the name of the task that compiles an alternative to what the task named `default` does."""
    return f"{default}, alternative {rank}"


def alternative_inputs(
    manifest: Manifest, role: str, target: str, trace: Result
) -> Mapping[str, SourceFile | OutputOf]:
    """Return the alternatives that a package for `target` takes of a component, by path in the task's inputs."""
    inputs: dict[str, SourceFile | OutputOf] = {}
    for rank in ranks(manifest, parse_target(target)):
        for region in regions_of(trace):
            compiled = alternative_name(compile_name(role, region, target), rank)
            inputs |= region_inputs(f"{role}/{OPTION}/{rank}/{region}", compiled)
    return inputs


def told(manifest: Manifest, targets: Iterable[Target]) -> str:
    """Return in words what alternatives add to compiles that are not known yet; empty where they add none."""
    most = max((len(ranks(manifest, target)) for target in targets), default=0)
    return f", and {most} alternative{'s' if most > 1 else ''} for GPUs" if most else ""
