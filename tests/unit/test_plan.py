"""The plan: which option enters which task's document, as the option table says and no other."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from spaces import ROOT

from maxbuild.engine import Digest, Result, Task
from maxbuild.manifest import OPTIONS, load_manifest
from maxbuild.plan import make_plan, toolchain_of
from maxbuild.steps.compile import COMPILERS
from maxbuild.targets import toolchain

MODELS = ROOT / "examples" / "models"

# Another value for each option that has a value of its own. What chooses the model's files is tested by their content.
OTHER_VALUES: Mapping[str, tuple[str, str]] = {
    "name": ("name: demo", "name: other"),
    "targets": ("[cpu:x86-64-v3,", "[cpu:x86-64-v2,"),
    "quantization_encoding": ("max_length: 512", "max_length: 512, quantization_encoding: float32"),
    "max_length": ("max_length: 512", "max_length: 256"),
    "use_subgraphs": ("max_length: 512", "max_length: 512, use_subgraphs: false"),
    "emit_ptx": ("max_length: 512", "max_length: 512, emit_ptx: true"),
    "chat_template": ("max_length: 512", 'max_length: 512, chat_template: "{{ messages }}"'),
    "served_model_name": ("max_length: 512", "max_length: 512, served_model_name: tiny"),
    "trust_remote_code": ("max_length: 512", "max_length: 512, trust_remote_code: true"),
    "num_speculative_tokens": ("num_speculative_tokens: 4", "num_speculative_tokens: 3"),
}
# One choice is left of these, or they choose files, or they only say other options in another way.
WITHOUT_OTHER_VALUE = frozenset(
    {"version", "models", "overrides", "model_path", "huggingface_model_revision", "subfolder"}
    | {"speculative_method", "rejection_sampling_strategy"}
)
NOTHING = Digest("0" * 64)


def write(folder: Path, old: str = "", new: str = "") -> Path:
    """Write the manifest with one piece of text replaced."""
    text = f"""version: 1
name: demo
targets: [cpu:x86-64-v3, cuda:sm_90, hip:gfx942]
models:
  main: {{model_path: {MODELS / "tiny-gemma3"}, max_length: 512}}
  draft: {{model_path: {MODELS / "tiny-gemma3-draft"}}}
speculative: {{speculative_method: standalone, num_speculative_tokens: 4}}
"""
    assert old in text
    path = folder / "manifest.yaml"
    path.write_text(text.replace(old, new) if old else text)
    return path


def params_by_kind(manifest: Path) -> dict[str, list[Any]]:
    """Return the parameters of every task, by kind, as if traces and loads had left one region and one file each."""
    plan = make_plan(load_manifest(manifest))
    left = Result({"program": NOTHING, "regions/before": NOTHING, "index": NOTHING, "weights/x": NOTHING})
    tasks: list[Task] = [*plan.tasks, *plan.grow({task.name: left for task in plan.tasks})]
    params: dict[str, list[Any]] = {}
    for task in tasks:
        params.setdefault(task.kind, []).append(dict(task.params))
    return params


@pytest.mark.parametrize("name", OTHER_VALUES)
def test_an_option_enters_the_documents_the_table_names_and_no_other(tmp_path: Path, name: str) -> None:
    """Changing one value changes the parameters of exactly those kinds of tasks."""
    option = next(option for option in OPTIONS if option.name == name and option.effective)
    before = params_by_kind(write(tmp_path))
    after = params_by_kind(write(tmp_path, *OTHER_VALUES[name]))
    changed = {kind for kind in before if before[kind] != after[kind]}
    # A local model is not downloaded: which files a download brings is shown with the hub's tests.
    assert changed == {kind.value for kind in option.kinds} - {"download"}


def test_ptx_is_asked_for_in_documents_of_cuda_alone(tmp_path: Path) -> None:
    """Compiles for other targets stay as they are when a manifest asks for PTX."""
    told = params_by_kind(write(tmp_path, *OTHER_VALUES["emit_ptx"]))["compile"]
    assert {params["target"] for params in told if params.get("emit_ptx")} == {"cuda:sm_90"}


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


def test_every_effective_option_is_accounted_for() -> None:
    """A new option needs a line above."""
    effective = {option.name for option in OPTIONS if option.effective and option.place != "command line"}
    assert effective == OTHER_VALUES.keys() | WITHOUT_OTHER_VALUE


def test_paths_of_models_are_in_no_document(tmp_path: Path) -> None:
    """The same files in another folder make the same documents."""
    copy = Path(shutil.copytree(MODELS / "tiny-gemma3", tmp_path / "elsewhere"))
    assert params_by_kind(write(tmp_path)) == params_by_kind(
        write(tmp_path, str(MODELS / "tiny-gemma3") + ",", f"{copy},")
    )


def test_compiles_and_packages_are_known_when_their_inputs_are(tmp_path: Path) -> None:
    """Before a trace there are no compiles, and the plan says what is missing."""
    plan = make_plan(load_manifest(write(tmp_path)))
    assert {task.kind for task in plan.tasks} == {"trace", "load"}
    assert plan.grow({}) == []
    told = [f"after {part.after}: {part.what}" for part in plan.deferred({})]
    assert told[0] == "after trace main: compile × regions of main × 3 targets"
