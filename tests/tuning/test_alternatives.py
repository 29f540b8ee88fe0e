"""Alternatives from manifest to package: further compiles for GPUs, which change nothing of those that are there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from spaces import MODELS
from tuning.toy_tuning import header, write_header

from maxbuild.engine import Digest, Job, Result, Task, hash_bytes
from maxbuild.errors import PackageError, UsageError
from maxbuild.inspect.package import _regions
from maxbuild.manifest import load_manifest
from maxbuild.plan import ManifestPlan, make_plan
from maxbuild.runtime.package import PackageHeader, read_header
from maxbuild.steps import package
from maxbuild.tuning.on_device import require_alternatives

GPU, CPU = "cuda:sm_90", "cpu:x86-64-v3"


def plan(folder: Path, alternatives: int) -> ManifestPlan:
    """Return the plan of one model for a CPU and two GPUs."""
    path = folder / "toy.yaml"
    path.write_text(
        f"""version: 1
name: toy
targets: [{CPU}, {GPU}, hip:gfx942]
models:
  main: {{model_path: {MODELS / "tiny-gemma3-draft"}, max_length: 512}}
compile: {{alternatives: {alternatives}}}
"""
    )
    return make_plan(load_manifest(path))


def grown(known: ManifestPlan) -> Mapping[str, Task]:
    """Return the tasks by name, as if the trace had left one region."""
    nothing = Digest("0" * 64)
    left = Result({"program": nothing, "regions/before": nothing, "index": nothing})
    tasks = [*known.tasks, *known.grow({task.name: left for task in known.tasks})]
    return {task.name: task for task in tasks}


def test_alternatives_are_further_compiles_for_gpus_alone(tmp_path: Path) -> None:
    """Compiles that are there without them keep their documents, so nothing is compiled anew for their sake."""
    before, after = grown(plan(tmp_path, 0)), grown(plan(tmp_path, 2))
    forms = {f"main/before @ {target}, alternative {rank}" for target in (GPU, "hip:gfx942") for rank in (1, 2)}
    assert after.keys() - before.keys() == {f"{kind} {form}" for kind in ("compile", "build") for form in forms}
    for name, task in before.items():
        if task.kind != "package":
            assert after[name] == task
    for name in (f"compile {form}" for form in forms):
        default = after[name.partition(",")[0]]
        assert after[name].params == {**default.params, "rank": int(name[-1])}
        assert (after[name].inputs, after[name].toolchain) == (default.inputs, default.toolchain)


def test_a_package_for_a_gpu_takes_them_and_that_for_a_cpu_does_not(tmp_path: Path) -> None:
    """The package task's inputs name each by rank and region."""
    tasks = grown(plan(tmp_path, 2))
    taken = {name for name in tasks[f"package @ {GPU}"].inputs if "alternatives" in name}
    forms = {f"main/alternatives/{rank}/before" for rank in (1, 2)}
    assert taken == forms | {f"libraries/{form}" for form in forms}
    assert not any("alternatives" in name for name in tasks[f"package @ {CPU}"].inputs)


def test_what_is_not_known_yet_counts_them(tmp_path: Path) -> None:
    """`plan` on a cold store tells that there will be more compiles."""
    (first, *_) = plan(tmp_path, 1).deferred({})
    assert first.what == "compile × regions of main × 3 targets, and 1 alternative for GPUs"
    assert plan(tmp_path, 0).deferred({})[0].what == "compile × regions of main × 3 targets"


def packaged(folder: Path, contents: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the header that the package task makes of regions and alternatives with these contents."""
    inputs = {"main/program.json": b'{"vocab_size": 1}', "main/weights.json": b"{}"} | {
        f"main/{name}": content for name, content in contents.items()
    }
    paths = {name: folder / name.replace("/", "_") for name in inputs}
    for name, content in inputs.items():
        paths[name].write_bytes(content)
    params = {"name": "toy", "target": GPU, "components": {"main": {}}, "speculative": None, "serving": {}}
    scratch = folder / "scratch"
    scratch.mkdir()
    digests = {name: hash_bytes(content) for name, content in inputs.items()}
    job = Job({**params, "built_with": {}}, paths, scratch, lambda *_: None, digests=digests)
    found: dict[str, Any] = json.loads(package.run(job)["package"].read_bytes())
    return found


def test_a_package_holds_each_form_once(tmp_path: Path) -> None:
    """A form that came out as the default did, or as another, is left out; the rest keep their ranks."""
    found = packaged(
        tmp_path,
        {
            "regions/before": b"before",
            "regions/decoder": b"decoder",
            "alternatives/1/before": b"before",
            "alternatives/2/before": b"before",
            "alternatives/1/decoder": b"other",
            "alternatives/2/decoder": b"other",
            "alternatives/3/decoder": b"third",
        },
    )
    component = found["components"]["main"]
    places = {content: f"regions/{hash_bytes(content)[:16]}.pt2" for content in (b"other", b"third")}
    assert component["alternatives"] == {"decoder": {"1": places[b"other"], "3": places[b"third"]}}
    assert component["regions"].keys() == {"before", "decoder"}
    assert component["files"] == {}
    assert places[b"third"] in found["files"]
    assert PackageHeader.from_json(found).to_json() == found


def test_without_alternatives_a_header_says_nothing_of_them(tmp_path: Path) -> None:
    """Packages keep the bytes that they had, and a reader that knows none can read those that have some."""
    found = packaged(tmp_path, {"regions/before": b"before", "alternatives/1/before": b"before"})
    assert "alternatives" not in found["components"]["main"]


@pytest.mark.parametrize(
    ("alternatives", "why"),
    [
        ({"block": {"1": "regions/nowhere.pt2"}}, "no digest of it"),
        ({"block": {"first": "regions/block.pt2"}}, "invalid literal"),
        ({"other": {"1": "regions/block.pt2"}}, "`other`, which is no region"),
        (["block"], "AttributeError"),
        ({"block": ["regions/block.pt2"]}, "AttributeError"),
    ],
)
def test_a_header_with_bad_alternatives_is_refused(tmp_path: Path, alternatives: Any, why: str) -> None:
    """A file without a digest, a rank that is no number, a region that is not there: malformed, before all else."""
    document = header({}).to_json()
    document["components"]["main"]["alternatives"] = alternatives
    (tmp_path / "package.json").write_text(json.dumps(document))
    with pytest.raises(PackageError, match=r"package\.json is malformed") as caught:
        read_header(tmp_path)
    assert why in caught.value.causes[0]


def test_an_inspection_looks_at_alternatives_too() -> None:
    """They are named by region and rank; one that several roles share is one file."""
    found = _regions(header({"block": {"1": "regions/fast.pt2"}}))
    assert found["regions/fast.pt2"] == ["main/block (1)"]
    assert found["regions/block.pt2"] == ["main/block"]


@pytest.mark.parametrize(
    ("target", "alternatives", "says"),
    [
        (CPU, {}, "packages for CPUs have no alternatives to time"),
        (GPU, {}, "holds no alternatives to time"),
        (GPU, {"block": {"1": "regions/fast.pt2"}}, None),
    ],
)
def test_what_has_no_choice_is_not_tuned(tmp_path: Path, target: str, alternatives: Any, says: str | None) -> None:
    """It is told before anything is loaded, with the way to get alternatives where there is one."""
    folder = write_header(tmp_path / "package", alternatives, target)
    if says is None:
        require_alternatives(folder, read_header(folder))
        return
    with pytest.raises(UsageError, match=says) as caught:
        require_alternatives(folder, read_header(folder))
    assert bool(caught.value.hint) is (target == GPU)
