"""The tasks that are of no component: the samplers, and the match of a draft with its main model.

What enters the samplers' document is what shapes their graphs and nothing else, so that another strategy reruns none of
the models' tasks, and another number of proposals none of the samplers'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from maxbuild.engine import JSON, OutputOf, Result, SourceFile, Task
from maxbuild.manifest import Manifest, SpeculativeConfig, TaskKind
from maxbuild.manifest.options import SPECULATIVE
from maxbuild.plan.components import Component
from maxbuild.plan.kinds import toolchain_of
from maxbuild.plan.parameters import document_value, section_parameters
from maxbuild.plan.tasks import compile_name, region_compile, region_inputs, regions_of
from maxbuild.targets.spelling import Target
from maxbuild.weights.selection import CONFIG

SAMPLERS = "samplers"
MATCH = "match draft"
MAIN, DRAFT = "main", "draft"

_TOKENIZER = "tokenizer.json"
_MIB = 1 << 20
_TRACE_MEMORY = 640 * _MIB  # 430: Python with torch, and small graphs


def sampler_tasks(manifest: Manifest, components: Sequence[Component]) -> Sequence[Task]:
    """Return the task that traces the samplers; none where the main model gives embeddings, of which none are drawn."""
    # Whoever speaks of pooling means an embedding model; for another the option is an error of its trace.
    if any(c.role == MAIN and (c.files.pooling or c.config.pool_embeddings is not None) for c in components):
        return []
    return [
        Task(
            name=SAMPLERS,
            kind="samplers",
            params={"acceptance": None if manifest.speculative is None else _acceptance(manifest.speculative)},
            inputs={},
            toolchain=toolchain_of("samplers"),
            memory=_TRACE_MEMORY,
            outputs=("program", "regions/*"),
        )
    ]


def sampler_compiles(manifest: Manifest, traced: Result | None, target: Target) -> Sequence[Task]:
    """Return the tasks that compile the samplers for a target; none where they are not traced."""
    if traced is None:
        return []
    return [region_compile(manifest, SAMPLERS, SAMPLERS, region, target) for region in regions_of(traced)]


def sampler_inputs(traced: Result | None, target: str) -> Mapping[str, SourceFile | OutputOf]:
    """Return what a package for `target` takes of the samplers, by path in the package; nothing without a trace."""
    if traced is None:
        return {}
    inputs: dict[str, SourceFile | OutputOf] = {f"{SAMPLERS}/program.json": OutputOf(SAMPLERS, "program")}
    for region in regions_of(traced):
        inputs |= region_inputs(f"{SAMPLERS}/regions/{region}", compile_name(SAMPLERS, region, target))
    return inputs


def match_tasks(manifest: Manifest, components: Sequence[Component]) -> Sequence[Task]:
    """Return the task that compares a draft with the main model, before anything costly is done for nothing."""
    pair = [component for component in components if component.role in {MAIN, DRAFT}]
    if manifest.speculative is None or len(pair) < 2:
        return []
    inputs = {
        f"{component.role}/{name}": component.sources[name]
        for component in pair
        for name in (CONFIG, _TOKENIZER)
        if name in component.sources
    }
    return [
        Task(
            name=MATCH,
            kind="match",
            params=section_parameters(manifest, SPECULATIVE, TaskKind.MATCH),
            inputs=inputs,
            toolchain=toolchain_of("match"),
            outputs=("agreement",),
        )
    ]


def match_inputs(manifest: Manifest) -> Mapping[str, SourceFile | OutputOf]:
    """Return what a package takes of the match: the tokens that it found, and that there was nothing to say."""
    return {} if manifest.speculative is None else {"agreement.json": OutputOf(MATCH, "agreement")}


def speculative_entry(speculative: SpeculativeConfig | None) -> JSON:
    """Return what the package's header says of the draft's use."""
    if speculative is None:
        return None
    return {
        "speculative_method": speculative.speculative_method,
        "num_speculative_tokens": speculative.num_speculative_tokens,
        "rejection_sampling_strategy": _strategy(speculative),
    }


def _acceptance(speculative: SpeculativeConfig) -> JSON:
    said: dict[str, JSON] = {"strategy": _strategy(speculative)}
    if speculative.synthetic_acceptance_rate is not None:
        # The graph holds the chance that gives this mean over so many proposals.
        said["synthetic_acceptance_rate"] = document_value(speculative.synthetic_acceptance_rate)
        said["num_speculative_tokens"] = speculative.num_speculative_tokens
    if speculative.use_relaxed_acceptance_for_thinking:
        said["relaxed_topk"] = speculative.relaxed_topk
        said["relaxed_delta"] = document_value(speculative.relaxed_delta)
    return said


def _strategy(speculative: SpeculativeConfig) -> str:
    if speculative.synthetic_acceptance_rate is not None:
        return "synthetic"
    return speculative.rejection_sampling_strategy
