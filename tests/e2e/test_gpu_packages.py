"""Packages for GPUs, end to end by the real command, on a host that has no GPU, driver or toolkit."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from spaces import MODELS, Space

pytestmark = pytest.mark.slow

TARGETS = ("cuda:sm_90", "hip:gfx942")


@pytest.fixture(scope="module")
def gpus(shared_folder: Path, shared_store: Path) -> Space:
    """Return a folder with a manifest of one small model in one region, and the packages it was built into."""
    space = Space(shared_folder / "gpus", shared_store)
    space.folder.mkdir(exist_ok=True)
    model = f"{{model_path: {MODELS / 'tiny-gemma3-draft'}, max_length: 512, use_subgraphs: false}}"
    (space.folder / "gpus.yaml").write_text(
        f"version: 1\nname: gpus\ntargets: [{', '.join(TARGETS)}]\nmodels:\n  main: {model}\n"
    )
    done = space.maxbuild("warm", "gpus.yaml")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["packages/gpus/cuda-sm_90", "packages/gpus/hip-gfx942"]
    return space


def states(space: Space, *arguments: str) -> dict[str, str]:
    """Return the state of each task of what a command answers."""
    done = space.maxbuild(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return {task["name"]: task["state"] for task in json.loads(done.stdout)["tasks"]}


@pytest.mark.parametrize("target", TARGETS)
def test_one_run_leaves_a_package_for_each_gpu(gpus: Space, target: str) -> None:
    """The header names the target, and the model's region holds kernels for it."""
    package = gpus.folder / "packages" / "gpus" / target.replace(":", "-")
    header = json.loads((package / "package.json").read_bytes())
    assert header["target"] == target
    (region,) = header["components"]["main"]["regions"].values()
    with zipfile.ZipFile(package / region) as archive:
        document = json.loads(archive.read("region/maxbuild.json"))
    assert document["target"] == target
    assert document["kernels"]


def test_a_second_run_finds_nothing_to_do(gpus: Space) -> None:
    """A compile for a GPU is kept like any other."""
    assert set(states(gpus, "warm", "gpus.yaml").values()) == {"cached"}


def test_packages_for_gpus_are_reproducible(gpus: Space) -> None:
    """Built again from an empty store in other surroundings, no byte is another: folder, HOME, hash seed, user."""
    done = gpus.maxbuild("warm", "gpus.yaml", "--verify-reproducible", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    compared = {package["target"]: package for package in document["reproducible"]["packages"]}
    assert compared.keys() == set(TARGETS)
    assert all(package["identical"] for package in compared.values())
    assert {task["state"] for task in document["tasks"]} == {"cached"}


def test_ptx_is_a_change_for_cuda_alone(gpus: Space) -> None:
    """Asked for PTX, a plan compiles for CUDA again and leaves the other GPU as it is."""
    told = states(gpus, "plan", "gpus.yaml", "--override", "compile.emit_ptx=true")
    assert told["compile main/model @ cuda:sm_90"] == "would_run"
    assert told["compile main/model @ hip:gfx942"] == "cached"
