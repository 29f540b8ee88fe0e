"""Custom architectures in manifests and plans: what enters which task, and what is told before anything runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from architectures.sources import ARCHITECTURE, EXAMPLE, write

from maxbuild.architectures.modules import find_modules
from maxbuild.architectures.precedence import stand_ins
from maxbuild.engine import Digest, OutputOf, Result, SourceFile, Task
from maxbuild.errors import ManifestError
from maxbuild.manifest import load_manifest
from maxbuild.plan import make_plan

NOTHING = Digest("0" * 64)


def manifest(folder: Path, architectures: str, *, example: Path = EXAMPLE) -> Path:
    """Write a manifest of the example's model with these custom architectures."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "custom.yaml"
    path.write_text(
        f"version: 1\nname: custom\ntargets: [cpu:x86-64-v3, cuda:sm_90, hip:gfx942]\n"
        f"custom_architectures: {architectures}\nmodels:\n  main: {{model_path: {example / 'tiny-tern'}}}\n"
    )
    return path


def tasks(path: Path, *traced: str) -> dict[str, Task]:
    """Return the tasks of a manifest's plan by name, as if those known at once had left these outputs."""
    plan = make_plan(load_manifest(path))
    left = Result(dict.fromkeys(("program", "index", *traced), NOTHING))
    grown = plan.grow({task.name: left for task in plan.tasks})
    return {task.name: task for task in (*plan.tasks, *grown)}


def test_the_source_is_an_input_of_trace_load_and_package(tmp_path: Path) -> None:
    """Each file by its name below the module's folder; nothing of it is in a param, and no path anywhere but there."""
    made = tasks(manifest(tmp_path, f"[{EXAMPLE}:tern]"), "regions/decoder.full")
    for name in ("trace main", "load main", "package @ cuda:sm_90"):
        source = {role: place for role, place in made[name].inputs.items() if role.startswith("architectures/")}
        assert source == {
            f"architectures/tern/tern/{file}.py": SourceFile(EXAMPLE / "tern" / f"{file}.py")
            for file in ("__init__", "configuration", "kernels", "modeling", "operators")
        }
        assert str(EXAMPLE) not in str(made[name].params)
    assert not any("architectures" in role for role in made["compile main/decoder.full @ cuda:sm_90"].inputs)


def test_a_compile_gets_the_lowerings_of_its_family(tmp_path: Path) -> None:
    """CUDA and HIP share one; a region without operators of its own has none."""
    left = ("regions/decoder.full", "regions/after", "lowerings/cpu/decoder.full", "lowerings/gpu/decoder.full")
    made = tasks(manifest(tmp_path, f"[{EXAMPLE}:tern]"), *left)
    for target, family in (("cpu:x86-64-v3", "cpu"), ("cuda:sm_90", "gpu"), ("hip:gfx942", "gpu")):
        inputs = made[f"compile main/decoder.full @ {target}"].inputs
        assert inputs["lowerings"] == OutputOf("trace main", f"lowerings/{family}/decoder.full")
        assert "lowerings" not in made[f"compile main/after @ {target}"].inputs


def test_libraries_that_a_module_imports_are_in_the_toolchain(tmp_path: Path) -> None:
    """Of traces and loads, with their versions, so that another version traces again."""
    write(tmp_path, made="import numpy\n" + ARCHITECTURE.format(name="made"))
    made = tasks(manifest(tmp_path, "[made.py]"))
    plain = tasks(manifest(tmp_path / "plain", "[]"))
    for name in ("trace main", "load main"):
        assert made[name].params["libraries"] == ["numpy"]
        assert made[name].toolchain.keys() - plain[name].toolchain.keys() == {"numpy"}
        assert "libraries" not in plain[name].params


def test_without_custom_architectures_nothing_of_them_is_in_a_task(tmp_path: Path) -> None:
    """So manifests that name none keep their keys."""
    made = tasks(manifest(tmp_path, "[]"), "regions/after")
    assert all("architectures" not in str((task.inputs, task.params, task.outputs)) for task in made.values())
    assert made["trace main"].outputs == ("program", "regions/*")


def test_paths_are_relative_to_the_manifest(tmp_path: Path) -> None:
    """As those of models are."""
    shutil.copytree(EXAMPLE / "tern", tmp_path / "deep" / "tern", ignore=shutil.ignore_patterns("__pycache__"))
    made = tasks(manifest(tmp_path, "[deep:tern]"))
    place = made["trace main"].inputs["architectures/tern/tern/kernels.py"]
    assert isinstance(place, SourceFile)
    assert place.path.samefile(tmp_path / "deep" / "tern" / "kernels.py")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("[./gone:tern]", "custom.yaml:4:24: no such module: `./gone:tern`"),
        ("[not_there_at_all]", "custom.yaml:4:24: no module `not_there_at_all` is installed"),
        ("[[tern]]", "custom.yaml:4:24: an item of `custom_architectures` must be text"),
        ("tern", "custom.yaml:4:23: `custom_architectures` must be a list"),
    ],
)
def test_what_names_no_module_is_told_at_its_place(tmp_path: Path, said: str, told: str) -> None:
    """Before anything runs: the file, the line and the column of the item."""
    with pytest.raises(ManifestError) as caught:
        load_manifest(manifest(tmp_path, said))
    assert told in str(caught.value)


def test_what_stands_in_for_transformers_own_is_told(tmp_path: Path) -> None:
    """By name, read off both sources; an architecture that transformers does not have is none of its business."""
    write(tmp_path, made=ARCHITECTURE.format(name="Llama"), other=ARCHITECTURE.format(name="made"))
    assert stand_ins(find_modules(["made.py", "other.py"], tmp_path)) == [
        "`LlamaForCausalLM` of the custom architecture module `made` stands in for transformers' own"
    ]
    assert not stand_ins(find_modules([".:tern"], EXAMPLE))
