"""The plan of a matrix: one graph, in which what variants have in common is one task."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manifest_files import write
from spaces import MODELS

from maxbuild.engine import Digest, OutputOf, Result, Task
from maxbuild.manifest import load_manifest
from maxbuild.plan import make_plan
from maxbuild.plan.graph import ManifestPlan
from maxbuild.plan.matrix import MatrixPlan

AXES = (
    "quantization_encoding: [float32, bfloat16]",
    "main.max_length: [64, 128]",
    "target: [cpu:x86-64-v2, cuda:sm_90]",
    "draft.served_model_name: [a, b]",
    "speculative.num_speculative_tokens: [2, 3]",
)


def plan_of(folder: Path, *axes: str, more: str = "") -> MatrixPlan:
    """Return the plan of the demo's models with a matrix of these axes."""
    text = f"""version: 1
name: demo
targets: [cpu:x86-64-v2]
models:
  main: {{model_path: {MODELS / "tiny-gemma3"}}}
  draft: {{model_path: {MODELS / "tiny-gemma3-draft"}, max_length: 64}}
speculative: {{speculative_method: standalone, num_speculative_tokens: 4}}
matrix:
"""
    path = write(folder, {"demo.yaml": text + "".join(f"  {axis}\n" for axis in axes) + more})
    plan = make_plan(load_manifest(path))
    assert isinstance(plan, MatrixPlan)
    return plan


def left_by(task: Task) -> Result:
    """Return a result of two regions or two files, told apart by the task's kind and parameters."""
    content = Digest(sha256(f"{task.kind} {task.params}".encode()).hexdigest())
    names = ("program", "regions/before", "regions/layer", "index", "weights/x", "package")
    return Result(dict.fromkeys(names, content))


def grown(plan: MatrixPlan | ManifestPlan) -> dict[str, Task]:
    """Return all tasks by name, as they become known one result at a time."""
    tasks = {task.name: task for task in plan.tasks}
    results: dict[str, Result] = {}
    while waiting := [task for name, task in tasks.items() if name not in results]:
        results[waiting[0].name] = left_by(waiting[0])
        for task in plan.grow(results):
            tasks.setdefault(task.name, task)
    assert not plan.deferred(results)
    return tasks


def document(name: str, tasks: Mapping[str, Task]) -> object:
    """Return what a task is, with what it is made of in place of names."""
    task = tasks[name]
    inputs = {
        role: (document(source.task, tasks), source.output) if isinstance(source, OutputOf) else source
        for role, source in task.inputs.items()
    }
    return repr((task.kind, task.params, task.toolchain, task.outputs, sorted(inputs.items())))


def test_variants_share_what_nothing_sets_apart(tmp_path: Path) -> None:
    """A length enters the trace alone, so there is one load; an encoding enters both; the draft has neither axis."""
    plan = plan_of(tmp_path, "main.quantization_encoding: [float32, bfloat16]", "main.max_length: [64, 128]")
    names = {task.name for task in plan.tasks if task.name.split()[0] in {"trace", "load"}}
    assert names == {
        "trace main [float32,64]",
        "trace main [float32,128]",
        "trace main [bfloat16,64]",
        "trace main [bfloat16,128]",
        "load main [float32]",
        "load main [bfloat16]",
        "trace draft",
        "load draft",
    }


def test_tasks_consume_from_those_of_their_own_variant(tmp_path: Path) -> None:
    """Names are those of the common graph on both ends of every edge."""
    tasks = grown(plan_of(tmp_path, "main.max_length: [64, 128]"))
    compiled = tasks["compile main/layer @ cpu:x86-64-v2 [128]"]
    assert compiled.inputs["region"] == OutputOf("trace main [128]", "regions/layer")
    package = tasks["package @ cpu:x86-64-v2 [128]"]
    assert package.producers >= {"load main", "load draft", "trace main [128]", compiled.name}
    assert all(task.producers <= tasks.keys() for task in tasks.values())


def test_packages_are_known_by_variant_and_target(tmp_path: Path) -> None:
    """Each variant places its packages under its own name, and a comparison of builds tells them apart."""
    plan = plan_of(tmp_path, *AXES[:1], AXES[2], "exclude: [{target: cuda:sm_90, quantization_encoding: float32}]")
    tasks = grown(plan)
    assert plan.package_tasks() == {
        "cpu:x86-64-v2 [float32]": "package @ cpu:x86-64-v2 [float32]",
        "cpu:x86-64-v2 [bfloat16]": "package @ cpu:x86-64-v2 [bfloat16]",
        "cuda:sm_90 [bfloat16]": "package @ cuda:sm_90 [bfloat16]",
    }
    found = {variant.manifest.name: dict(variant.package_tasks()) for variant in plan.variants}
    assert found["demo-float32"] == {"cpu:x86-64-v2": "package @ cpu:x86-64-v2 [float32]"}
    assert found.keys() == {"demo-float32", "demo-bfloat16"}
    assert {task for packages in found.values() for task in packages.values()} <= tasks.keys()
    assert {tasks[name].params["name"] for name in plan.package_tasks().values()} == {"demo-float32", "demo-bfloat16"}


def test_what_is_not_known_yet_is_told_once(tmp_path: Path) -> None:
    """Before any trace, each part waits for a task of the graph, and what variants share waits once."""
    plan = plan_of(tmp_path, "main.max_length: [64, 128]")
    names = {task.name for task in plan.tasks}
    deferred = plan.deferred({})
    assert {part.after for part in deferred} <= names
    assert len(set(deferred)) == len(deferred)
    assert sum(part.what.startswith("compile × regions of draft") for part in deferred) == 1
    assert {part.after for part in deferred if "regions of main" in part.what} == {
        "trace main [64]",
        "trace main [128]",
    }


def test_a_single_variant_is_called_as_without_a_matrix(tmp_path: Path) -> None:
    """Nothing has to be told apart."""
    assert all("[" not in name for name in grown(plan_of(tmp_path, "main.max_length: [64]")))


@settings(max_examples=6, deadline=None)
@given(axes=st.lists(st.sampled_from(AXES), min_size=1, max_size=3, unique=True).filter(lambda axes: axes != [AXES[2]]))
def test_the_graph_is_that_of_all_variants_each_task_once(
    tmp_path_factory: pytest.TempPathFactory, axes: list[str]
) -> None:
    """Whatever the axes: every task of every variant is there, no two tasks are the same, and no task is a stranger."""
    plan = plan_of(tmp_path_factory.mktemp("matrix"), *axes)
    together = grown(plan)
    documents = [document(name, together) for name in together]
    assert len(set(documents)) == len(documents)
    alone = set()
    for variant in plan.manifest.variants:
        tasks = grown(make_plan(variant))  # type: ignore[arg-type]
        alone |= {document(name, tasks) for name in tasks}
    assert set(documents) == alone
