"""The example of a custom architecture, end to end by the real command: build, edit, run, verify, and for a GPU."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from spaces import ROOT, Space, states

from maxbuild.engine import Store, execute
from maxbuild.manifest import load_manifest
from maxbuild.plan import KINDS, make_plan
from maxbuild.plan.tasks import build_name
from maxbuild.runtime import load_package
from maxbuild.targets.archive import assemble

pytestmark = pytest.mark.slow

EXAMPLE = ROOT / "examples" / "custom_architecture"
TARGET = "cpu:x86-64-v2"


# The likeliest tokens by the module's own code and attention, the whole row anew for each.
EAGER = """
import json, sys
sys.path.insert(0, sys.argv[1])
import torch
from tern import TernForCausalLM

model = TernForCausalLM.from_pretrained(sys.argv[1] + "/tiny-tern", dtype=torch.float32, attn_implementation="eager")
row = prompt = json.loads(sys.argv[2])
with torch.inference_mode():
    for _ in range(12):
        row = [*row, model(torch.tensor([row])).logits[0, -1].argmax().item()]
print(json.dumps(row[len(prompt) :]))
"""


def copied(folder: Path) -> Path:
    """Copy the example and its manifest into `folder` as they lie in the repository; return the manifest."""
    shutil.copytree(EXAMPLE, folder / "examples" / "custom_architecture", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "manifests").mkdir()
    return Path(shutil.copy(ROOT / "manifests" / "custom.yaml", folder / "manifests"))


def edit(manifest: Path, file: str, old: str, new: str) -> None:
    """Replace a text that is in a file of the example's module."""
    path = manifest.parent.parent / "examples" / "custom_architecture" / "tern" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def outputs(space: Space, manifest: Path, target: str, *tasks: str) -> dict[str, Path]:
    """Build these tasks one after the other, with all they consume from, and return the files that they left."""
    plan = make_plan(load_manifest(manifest, targets=[target]))
    left: dict[str, Path] = {}
    with Store(space.store) as store:
        for name in tasks:
            report = execute(plan, store, KINDS, scope=plan.manifest.name, jobs=1, only={name})
            blobs = report.results[name].outputs.items()
            left.update({output: path for output, digest in blobs if (path := store.blob_path(digest))})
    return left


@pytest.fixture(scope="module")
def package(shared_folder: Path, shared_store: Path) -> Path:
    """Return the example's package for CPUs, built from a copy in another folder."""
    space = Space(shared_folder / "custom", shared_store)
    space.folder.mkdir()
    done = space.maxbuild("warm", copied(space.folder), "--target", TARGET)
    assert done.returncode == 0, done.stderr
    return space.folder / done.stdout.strip()


def test_it_verifies_against_its_own_model(package: Path, space: Space) -> None:
    """Regions and logits are within rounding of the module's own code, which the package holds.

    What lies beside that code and is not named in the header is not imported.
    """
    stranger = package / "architectures" / "stranger" / "stranger.py"
    stranger.parent.mkdir()
    stranger.write_text("raise SystemExit('imported')\n")
    done = space.maxbuild("verify", package, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    compared = {(row["component"], row["what"]) for row in json.loads(done.stdout)["comparisons"]}
    assert compared == {("main", "before"), ("main", "decoder.full"), ("main", "after"), ("main", "logits")}


def test_it_runs_without_its_module(package: Path, space: Space) -> None:
    """The same tokens as its eager model's likeliest ones, from compiled regions alone."""
    loaded = load_package(package)
    prompt = loaded.text.encode("one two three")
    done = subprocess.run(
        [sys.executable, "-c", EAGER, EXAMPLE, json.dumps(prompt)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert list(loaded.generate(prompt, 12).tokens) == json.loads(done.stdout)
    assert "tern" not in sys.modules


def test_where_it_lies_is_in_no_key(package: Path, space: Space) -> None:
    """From the repository's own folder nothing is to be built."""
    done = space.maxbuild("warm", ROOT / "manifests" / "custom.yaml", "--target", TARGET, "--json")
    assert set(states(done).values()) == {"cached"}


def test_a_comment_traces_again_and_compiles_nothing(package: Path, space: Space) -> None:
    """Trace, load and package have the source among their inputs; graphs and lowerings come out the same bytes."""
    manifest = copied(space.folder)
    edit(manifest, "kernels.py", "# Rounded before it is squared", "# Rounded first")
    edit(manifest, "modeling.py", '"""Tern: a decoder', '"""A decoder')
    done = states(space.maxbuild("warm", manifest, "--target", TARGET, "--json"))
    assert {name for name, state in done.items() if state == "built"} == {
        "trace main", "load main", f"package @ {TARGET}",
    }  # fmt: skip


def test_a_reference_compiles_the_region_that_uses_it_and_no_other(package: Path, space: Space) -> None:
    """After its trace the plan knows: one compile is to be done, the others are found."""
    manifest = copied(space.folder)
    edit(manifest, "operators.py", "wide.square().mean", "(wide * wide).mean")
    outputs(space, manifest, TARGET, "trace main")
    planned = states(space.maxbuild("plan", manifest, "--target", TARGET, "--json"))
    assert {name for name, state in planned.items() if state == "would_run" and name.startswith("compile")} == {
        f"compile main/decoder.full @ {TARGET}"
    }


def test_a_kernel_for_gpus_is_no_change_for_cpus(package: Path, space: Space) -> None:
    """No compile for a CPU has it in its key."""
    manifest = copied(space.folder)
    edit(manifest, "kernels.py", "tl.rsqrt(", "1.0 / tl.sqrt(")
    done = states(space.maxbuild("warm", manifest, "--target", TARGET, "--json"))
    assert not [name for name, state in done.items() if state == "built" and name.startswith(("compile", "build"))]


def test_a_module_that_fails_is_an_error_without_a_traceback(package: Path, space: Space) -> None:
    """Told by file, line and reason; the exit code is that of a failed task."""
    manifest = copied(space.folder)
    edit(manifest, "modeling.py", "class TernForCausalLM(", "raise KeyError('gone')\nclass TernForCausalLM(")
    done = space.maxbuild("warm", manifest, "--target", TARGET)
    assert done.returncode == 1
    assert "the custom architecture module `tern` cannot be imported" in done.stderr
    assert "Caused by: tern/modeling.py:" in done.stderr
    assert "KeyError: 'gone'" in done.stderr
    assert "Traceback" not in done.stderr


def test_its_kernel_is_in_the_region_for_a_gpu(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled for `cuda:sm_90` on a host without a GPU; the artifact and `inspect` say whose kernel it is."""
    monkeypatch.syspath_prepend(ROOT / "tests" / "inspect")
    from inspect_samples import write_package

    task = "compile main/decoder.full @ cuda:sm_90"
    left = outputs(space, ROOT / "manifests" / "custom.yaml", "cuda:sm_90", "trace main", task, build_name(task))
    region = space.folder / "region.pt2"
    assemble(left["code"], left["library"], region)
    with zipfile.ZipFile(region) as archive:
        kernels = json.loads(archive.read("region/maxbuild.json"))["kernels"]
        (own,) = [kernel for kernel in kernels if kernel["source"] == "tern.kernels"]
        assert own["entry"] == "add_rms_norm_kernel"
        assert f"region/data/aotinductor/model/{own['file']}" in archive.namelist()
        places = [str(space.folder.parent).encode(), str(ROOT).encode(), b"kernels.py"]
        assert not [name for name in archive.namelist() for place in places if place in archive.read(name)]
    gpu = write_package(space.folder / "gpu", "cuda:sm_90", {"decoder.full": region})
    told = space.maxbuild("inspect", gpu, "--json")
    assert told.returncode == 0, told.stdout
    (inspected,) = json.loads(told.stdout)["packages"]
    sources = {kernel["entry"]: kernel["source"] for kernel in inspected["regions"][0]["kernels"]}
    assert sources["add_rms_norm_kernel"] == "tern.kernels"
