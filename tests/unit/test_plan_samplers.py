"""The tasks of no component: what enters the samplers' document, what a draft is matched by, and further roles."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from spaces import ROOT

from maxbuild.engine import Digest, OutputOf, Result, Task
from maxbuild.manifest import load_manifest
from maxbuild.plan import make_plan
from maxbuild.plan.tasks import region_inputs

MODELS = ROOT / "examples" / "models"
MAIN, DRAFT = str(MODELS / "tiny-gemma3"), str(MODELS / "tiny-gemma3-draft")
STANDALONE = {"speculative_method": "standalone", "num_speculative_tokens": 4}
LEFT = Result(dict.fromkeys(("program", "regions/before", "index", "agreement"), Digest("0" * 64)))


def tasks_of(folder: Path, speculative: Mapping[str, Any] | None = None, **models: Any) -> dict[str, Task]:
    """Return all tasks by name, of a manifest for one target, as if each had left one region."""
    roles: dict[str, Any] = {"main": {"model_path": MAIN}, **models}
    if speculative is not None:
        roles.setdefault("draft", {"model_path": DRAFT})
    said = {"version": 1, "name": "demo", "targets": ["cuda:sm_90"], "models": roles}
    path = folder / "manifest.yaml"
    path.write_text(json.dumps({**said, **({"speculative": speculative} if speculative is not None else {})}))
    plan = make_plan(load_manifest(path))
    known = {task.name: task for task in plan.tasks}
    return known | {task.name: task for task in plan.grow(dict.fromkeys(known, LEFT))}


@pytest.mark.parametrize(
    ("speculative", "acceptance"),
    [
        (None, None),
        (STANDALONE, {"strategy": "residual"}),
        ({**STANDALONE, "num_speculative_tokens": 9}, {"strategy": "residual"}),
        ({**STANDALONE, "rejection_sampling_strategy": "greedy"}, {"strategy": "greedy"}),
        (
            {**STANDALONE, "use_relaxed_acceptance_for_thinking": True, "relaxed_delta": 0.25},
            {"strategy": "residual", "relaxed_topk": 10, "relaxed_delta": "0.25"},
        ),
        (
            {**STANDALONE, "synthetic_acceptance_rate": 0.75},
            {"strategy": "synthetic", "synthetic_acceptance_rate": "0.75", "num_speculative_tokens": 4},
        ),
    ],
    ids=str,
)
def test_the_samplers_document_holds_what_shapes_them_alone(
    tmp_path: Path, speculative: Mapping[str, Any] | None, acceptance: Mapping[str, Any] | None
) -> None:
    """No model, no vocabulary, no target; the number of proposals where a rate is worked out from it alone."""
    samplers = tasks_of(tmp_path, speculative)["samplers"]
    assert samplers.params == {"acceptance": acceptance}
    assert samplers.inputs == {}


def test_samplers_are_compiled_and_packaged_for_each_target(tmp_path: Path) -> None:
    """Their compiles are those of regions, and the package takes program and artifacts."""
    tasks = tasks_of(tmp_path)
    compiled = tasks["compile samplers/before @ cuda:sm_90"]
    assert compiled.inputs == {"region": OutputOf("samplers", "regions/before")}
    assert compiled.params == {"target": "cuda:sm_90"}
    taken = tasks["package @ cuda:sm_90"].inputs
    assert taken["samplers/program.json"] == OutputOf("samplers", "program")
    assert region_inputs("samplers/regions/before", compiled.name).items() <= taken.items()
    assert {source.task for source in taken.values() if isinstance(source, OutputOf)} <= tasks.keys()


def test_what_a_compile_is_told_samplers_are_told_too(tmp_path: Path) -> None:
    """PTX beside the kernels is for all regions of a package, or it runs on no later GPU."""
    path = tmp_path / "manifest.yaml"
    models = {"main": {"model_path": MAIN}}
    said = {"version": 1, "name": "demo", "targets": ["cuda:sm_90"], "models": models, "compile": {"emit_ptx": True}}
    path.write_text(json.dumps(said))
    plan = make_plan(load_manifest(path))
    compiles = [task for task in plan.grow({task.name: LEFT for task in plan.tasks}) if task.kind == "compile"]
    assert {task.name.split("/")[0] for task in compiles} == {"compile main", "compile samplers"}
    assert all(task.params["emit_ptx"] is True for task in compiles)


def test_embedding_models_have_no_samplers(tmp_path: Path) -> None:
    """Nothing is picked from what they give, and packages do not wait for it."""
    tasks = tasks_of(tmp_path, main={"model_path": MAIN, "pool_embeddings": True})
    assert not [name for name in tasks if "samplers" in name]
    assert "package @ cuda:sm_90" in tasks


def test_a_package_waits_for_samplers(tmp_path: Path) -> None:
    """Until they are traced it is told what comes after them."""
    path = tmp_path / "manifest.yaml"
    path.write_text(
        json.dumps({"version": 1, "name": "demo", "targets": ["cpu"], "models": {"main": {"model_path": MAIN}}})
    )
    plan = make_plan(load_manifest(path))
    others = {task.name: LEFT for task in plan.tasks if task.name != "samplers"}
    assert [(part.after, part.what.split(" @")[0]) for part in plan.deferred(others)] == [
        ("samplers", "compile × samplers × 1 target"),
        ("samplers", "package"),
    ]
    assert not [task for task in plan.grow(others) if task.kind == "package"]


def test_a_draft_is_matched_by_small_files_alone(tmp_path: Path) -> None:
    """Configs and tokenizers, no weights: on a hub they are there long before those. Without a draft nothing is."""
    matched = tasks_of(tmp_path, STANDALONE)["match draft"]
    names = {f"{role}/{name}" for role in ("main", "draft") for name in ("config.json", "tokenizer.json")}
    assert matched.inputs.keys() == names
    assert not [name for name in tasks_of(tmp_path) if name.startswith("match")]


def test_further_roles_are_components_like_the_others(tmp_path: Path) -> None:
    """Each is traced, loaded, compiled and packaged; none of them is matched with `main`."""
    tasks = tasks_of(tmp_path, STANDALONE, text_encoder={"model_path": DRAFT}, reranker={"model_path": DRAFT})
    for role in ("text_encoder", "reranker"):
        assert {f"trace {role}", f"load {role}", f"compile {role}/before @ cuda:sm_90"} <= tasks.keys()
        assert f"{role}/program.json" in tasks["package @ cuda:sm_90"].inputs
    assert {name.split("/")[0] for name in tasks["match draft"].inputs} == {"main", "draft"}
