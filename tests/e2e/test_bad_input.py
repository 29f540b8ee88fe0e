"""Bad input to the real command: a clear error with a hint, the right exit code, and nothing lost."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from spaces import ROOT, Space

MODELS = ROOT / "examples" / "models"


def write_manifest(folder: Path, model: Path | str, *extra: str) -> Path:
    """Write a manifest with one model into `folder`."""
    path = folder / "one.yaml"
    path.write_text(
        "\n".join(["version: 1", "name: one", "targets: [cpu]", f"models: {{main: {{model_path: {model}}}}}", *extra])
    )
    return path


def test_a_missing_folder(empty_space: Space) -> None:
    """The path is shown with its place in the manifest."""
    done = empty_space.maxbuild("warm", write_manifest(empty_space.folder, "./nowhere"))
    assert done.returncode == 2
    assert "one.yaml:4:" in done.stderr
    assert "no such folder" in done.stderr


def test_a_folder_with_pickles(empty_space: Space) -> None:
    """Pickle weights are refused before anything runs."""
    model = empty_space.folder / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "pytorch_model.bin").write_bytes(b"")
    done = empty_space.maxbuild("warm", write_manifest(empty_space.folder, "./model"))
    assert done.returncode == 1
    assert "are pickles" in done.stderr
    assert "hint: convert them to safetensors" in done.stderr


@pytest.mark.slow
def test_no_compiler(empty_space: Space) -> None:
    """Without a C++ compiler each compile says so; what needs none is built and kept."""
    path = os.pathsep.join([str(Path(sys.executable).parent)])
    space = Space(empty_space.folder, empty_space.store, {"PATH": path})
    manifest = write_manifest(space.folder, MODELS / "tiny-gemma3-draft")
    done = space.maxbuild("warm", manifest, "--keep-going")
    assert done.returncode == 1
    assert "no C++ compiler" in done.stderr
    assert "apt-get install g++" in done.stderr
    assert "Traceback" not in done.stderr
    again = space.maxbuild("plan", manifest)
    assert "trace main" in next(line for line in again.stdout.splitlines() if "cached" in line)


@pytest.mark.slow
def test_a_truncated_weight_file(empty_space: Space) -> None:
    """The failing task and the file are named, and the next run with a whole file goes on."""
    model = empty_space.folder / "model"
    shutil.copytree(MODELS / "tiny-gemma3-draft", model)
    weights = model / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-10])
    manifest = write_manifest(empty_space.folder, "./model")
    done = empty_space.maxbuild("warm", manifest, "--jobs", "1")
    assert done.returncode == 1
    assert "load main" in done.stderr
    assert "model.safetensors" in done.stderr
    assert "damaged" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("warm", "nowhere.yaml"), "nowhere.yaml"),
        (("warm", "one.yaml", "--target", "cuda:sm_75"), "no target is called `cuda:sm_75`"),
        (("warm", "one.yaml", "--target", "cpu:x86-64-v9"), "supported targets: cpu:x86-64-v2"),
        (("warm", "one.yaml", "--override", "other.max_length=4"), "other"),
        (("warm", "one.yaml", "--override", "main.max_lenght=4"), "did you mean `max_length`"),
    ],
)
def test_usage(empty_space: Space, arguments: tuple[str, ...], says: str) -> None:
    """Wrong arguments end with 2, name the mistake and never show a traceback."""
    write_manifest(empty_space.folder, MODELS / "tiny-gemma3-draft")
    done = empty_space.maxbuild(*arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
