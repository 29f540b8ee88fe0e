"""The plan: which option enters which task's document, as the option table says and no other."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from spaces import ROOT

from maxbuild.engine import Digest, Result, Task
from maxbuild.manifest import OPTIONS, Option, TaskKind, load_manifest
from maxbuild.manifest.options import COMMAND_LINE, ROLE, TOP, State, ValueType
from maxbuild.plan import make_plan, toolchain_of
from maxbuild.steps.compile import COMPILERS
from maxbuild.targets import toolchain

MODELS = ROOT / "examples" / "models"
NOTHING = Digest("0" * 64)

MANIFEST: Mapping[str, Any] = {
    "version": 1,
    "name": "demo",
    "targets": ["cpu:x86-64-v3", "cuda:sm_90", "hip:gfx942"],
    "models": {
        "main": {"model_path": str(MODELS / "tiny-gemma3"), "max_length": 512},
        "draft": {"model_path": str(MODELS / "tiny-gemma3-draft")},
    },
    "speculative": {"speculative_method": "standalone", "num_speculative_tokens": 4},
}

# What has to be said in the same place for an option to have a meaning.
BESIDE: Mapping[str, Mapping[str, Any]] = {
    "kv_connector_config": {"kv_connector": "dkv"},
    "device_graph_capture": {"max_batch_size": 64},
    "debug_verify_replay": {"max_batch_size": 64, "device_graph_capture": True},
    "relaxed_topk": {"use_relaxed_acceptance_for_thinking": True},
    "relaxed_delta": {"use_relaxed_acceptance_for_thinking": True},
}

# Another value, where the table alone does not tell one.
OTHER_VALUES: Mapping[str, Any] = {
    "targets": ["cpu:x86-64-v2", "cuda:sm_90", "hip:gfx942"],
    "max_length": 256,
    "chat_template": "{{ messages }}",
    "vision_config_overrides": {"image_size": 224},
    "kv_connector_config": {"host_kvcache_swap_space_gb": 12.5, "disk_offload_dir": "/tmp/cache"},
}
# These are said in a manifest for targets that they fit.
TARGETS: Mapping[str, list[str]] = {"devices": ["cuda:sm_90", "hip:gfx942"]}
# An embedding model draws no tokens, so the plan has fewer tasks.
FEWER_TASKS: Mapping[str, set[str]] = {"pool_embeddings": {"samplers", "package"}}
# The format's own version has one value, and `models` is the roles themselves.
WITHOUT_OTHER_VALUE = frozenset({"version", "models"})


class Known(NamedTuple):
    """One task's document, as far as a plan makes it known: what it consumes is known by role."""

    kind: str
    target: str | None
    document: Any


def entering(option: Option) -> bool:
    """Tell whether the option's value itself is in documents, and can be another."""
    return option.accepted and bool(option.kinds) and not option.by_content


CHANGEABLE = [o for o in OPTIONS if entering(o) and o.name not in WITHOUT_OTHER_VALUE and o.place != COMMAND_LINE]
# Of one that is left of several choices there is no other yet.
CHANGED = [option for option in CHANGEABLE if option.value_type is not ValueType.CHOICE or len(option.choices) > 1]


def other_value(option: Option) -> Any:
    """Return a value that is neither the option's default nor the one in the manifest."""
    if option.name in OTHER_VALUES:
        return OTHER_VALUES[option.name]
    said = saying(MANIFEST, option).get(option.name, option.default)
    match option.value_type:
        case ValueType.BOOLEAN:
            return not said
        case ValueType.CHOICE:
            return next(choice for choice in option.choices if choice not in {said, option.default})
        case ValueType.INTEGER:
            # Even, for what is counted in pairs, and within every bound of the table.
            return int(option.minimum or 0) + 2 if option.maximum is None else int(option.maximum)
        case ValueType.NUMBER:
            return 0.25
        case ValueType.TEXT:
            return {"devices": "gpu:1"}.get(option.name, "other")
        case ValueType.LIST | ValueType.MAPPING:
            raise AssertionError(f"`{option.name}` needs another value in OTHER_VALUES")


def saying(manifest: Mapping[str, Any], option: Option) -> Any:
    """Return the part of `manifest` in which the option stands; the role `main` for an option of models."""
    match option.place:
        case place if place == TOP:
            return manifest
        case place if place == ROLE:
            return manifest["models"]["main"]
        case place:
            return manifest.get(place, {})


def manifests_about(option: Option, value: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return two manifests: with what the option needs beside it, and with the option's own `value` too."""
    manifest = copy.deepcopy(dict(MANIFEST)) | {"targets": TARGETS.get(option.name, MANIFEST["targets"])}
    if option.place not in {TOP, ROLE}:
        manifest.setdefault(option.place, {})
    saying(manifest, option).update(BESIDE.get(option.name, {}))
    other = copy.deepcopy(manifest)
    saying(other, option)[option.name] = value
    return manifest, other


def documents_of(folder: Path, manifest: Mapping[str, Any]) -> list[Known]:
    """Return the documents of every task, as if traces and loads had left one region and one file each."""
    path = folder / "manifest.yaml"
    path.write_text(json.dumps(manifest))
    plan = make_plan(load_manifest(path))
    left = Result({"program": NOTHING, "regions/before": NOTHING, "index": NOTHING, "weights/x": NOTHING})
    tasks: list[Task] = [*plan.tasks, *plan.grow({task.name: left for task in plan.tasks})]
    return [
        Known(
            task.kind,
            str(task.params["target"]) if "target" in task.params else None,
            [task.kind, dict(task.params), {role: str(role) for role in task.inputs}, dict(task.toolchain)],
        )
        for task in tasks
    ]


def changed_between(before: Iterable[Known], after: Iterable[Known]) -> tuple[set[str], set[str]]:
    """Return the kinds, and the targets of compiles, of the documents that are in one list alone."""
    one, other = list(before), list(after)
    changed = [known for known in one if known not in other] + [known for known in other if known not in one]
    return {known.kind for known in changed}, {str(known.target) for known in changed if known.kind == "compile"}


@pytest.mark.parametrize("option", CHANGED, ids=lambda option: option.name)
def test_an_option_enters_the_documents_the_table_names_and_no_other(tmp_path: Path, option: Option) -> None:
    """Changing one value changes the documents of exactly those kinds of tasks; a carried one, of packages alone.

    What consumes what those tasks leave changes by that content, and only where it comes out different.
    """
    before, after = manifests_about(option, other_value(option))
    kinds, targets = changed_between(documents_of(tmp_path, before), documents_of(tmp_path, after))
    # A local model is not downloaded: which files a download brings is shown with the hub's tests.
    entered = {kind.value for kind in option.kinds} - {TaskKind.DOWNLOAD.value}
    assert kinds == entered | FEWER_TASKS.get(option.name, set())
    if option.apis:
        assert {target.partition(":")[0] for target in targets} == set(option.apis)


@pytest.mark.parametrize(
    "option",
    [option for option in CHANGEABLE if option.default is not None],
    ids=lambda option: option.name,
)
def test_a_default_is_in_no_document_said_or_not(tmp_path: Path, option: Option) -> None:
    """Saying what holds anyway changes no key, so a new option changes none of a manifest that does not set it."""
    unsaid, said = manifests_about(option, option.default)
    assert changed_between(documents_of(tmp_path, unsaid), documents_of(tmp_path, said)) == (set(), set())


def test_every_option_that_enters_documents_can_be_changed_here() -> None:
    """No option is left out above but those that say so."""
    left_out = {option.name for option in OPTIONS if option.accepted} - {option.name for option in CHANGED}
    by_content = {option.name for option in OPTIONS if option.by_content or not option.kinds}
    one_choice = {option.name for option in CHANGEABLE} - {option.name for option in CHANGED}
    assert left_out <= WITHOUT_OTHER_VALUE | by_content | one_choice
    carried = {option.name for option in OPTIONS if option.state is State.CARRIED}
    assert carried <= {option.name for option in CHANGED}


def test_carried_values_stand_in_the_package_as_the_manifest_says_them(tmp_path: Path) -> None:
    """By section and name, roles under `models`, numbers with a point as decimal text, defaults left out."""
    manifest = copy.deepcopy(dict(MANIFEST))
    manifest["targets"] = ["cuda:sm_90"]
    manifest["models"]["main"]["devices"] = "gpu:1"
    manifest["kv_cache"] = {
        "kv_connector": "dkv",
        "device_memory_utilization": 0.5,
        "kv_connector_config": {"disk_offload_max_gb": 12.5, "paths": ["/a", 7]},
        "enable_prefix_caching": True,
    }
    manifest["runtime"] = {"max_batch_size": 64, "ce_delay_ms": 1e-7, "decode_stall_timeout_s": 30}
    (package,) = [known for known in documents_of(tmp_path, manifest) if known.kind == "package"]
    assert package.document[1]["components"] == {"main": {}, "draft": {}}
    assert package.document[1]["serving"] == {
        "models": {"main": {"devices": "gpu:1"}},
        "kv_cache": {
            "device_memory_utilization": "0.5",
            "kv_connector": "dkv",
            "kv_connector_config": '{"disk_offload_max_gb": 12.5, "paths": ["/a", 7]}',
        },
        "runtime": {
            "max_batch_size": 64,
            "ce_delay_ms": "0.0000001",
            "decode_stall_timeout_s": "30.0",
        },
    }


def test_another_draft_leaves_the_main_model_as_it_is(tmp_path: Path) -> None:
    """No value of the draft is in a document of the main model."""
    manifest = copy.deepcopy(dict(MANIFEST))
    manifest["models"]["draft"] |= {"max_length": 128, "use_subgraphs": False, "quantization_encoding": "bfloat16"}
    before, after = documents_of(tmp_path, MANIFEST), documents_of(tmp_path, manifest)
    assert [known for known in before if known not in after]
    for kind in ("trace", "load", "compile"):
        mains = [next(known for known in documents if known.kind == kind) for documents in (before, after)]
        assert mains[0] == mains[1]


def test_a_toolchain_names_what_shapes_compiles_for_its_target_alone() -> None:
    """A new Triton, or a change of what compiles for GPUs, reruns no compile for a CPU."""
    cpu, cuda, hip = (
        toolchain_of("compile", {"target": target}) for target in ("cpu:x86-64-v3", "cuda:sm_90", "hip:gfx942")
    )
    assert cuda.keys() - cpu.keys() == {"triton", "nvidia-cuda-cccl"}
    assert hip.keys() - cpu.keys() == {"triton"}
    assert cuda["maxbuild"] == hip["maxbuild"] != cpu["maxbuild"]


def test_what_is_imported_by_name_alone_is_part_of_no_other_digest() -> None:
    """The compile step names the modules for targets by text, so the digest of a CPU's holds nothing of a GPU's."""
    modules = set(toolchain._closure(["maxbuild.steps.compile", COMPILERS["cpu"]]))
    assert "maxbuild.targets.cpu" in modules
    assert not modules & {"maxbuild.targets.gpu", "maxbuild.targets.upstream", "maxbuild.kernels.attention"}


def test_paths_of_models_are_in_no_document(tmp_path: Path) -> None:
    """The same files in another folder make the same documents."""
    moved = copy.deepcopy(dict(MANIFEST))
    moved["models"]["main"]["model_path"] = str(shutil.copytree(MODELS / "tiny-gemma3", tmp_path / "elsewhere"))
    assert documents_of(tmp_path, MANIFEST) == documents_of(tmp_path, moved)


def test_compiles_and_packages_are_known_when_their_inputs_are(tmp_path: Path) -> None:
    """Before a trace there are no compiles, and the plan says what is missing."""
    path = tmp_path / "manifest.yaml"
    path.write_text(json.dumps(MANIFEST))
    plan = make_plan(load_manifest(path))
    assert not {task.kind for task in plan.tasks} & {"compile", "package"}
    assert plan.grow({}) == []
    told = [f"after {part.after}: {part.what}" for part in plan.deferred({})]
    assert told[0] == "after trace main: compile × regions of main × 3 targets"
