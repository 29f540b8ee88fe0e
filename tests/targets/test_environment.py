"""What a compile sees of the environment, and what it says where something is not installed."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest

from maxbuild.engine import Job
from maxbuild.errors import TaskFailed
from maxbuild.steps.compile import run
from maxbuild.targets.environment import clear_environment, use_folder

STEERING = (
    "TRITON_CACHE_DIR",
    "TRITON_OVERRIDE_ARCH",
    "PTXAS_OPTIONS",
    "AMDGCN_USE_BUFFER_OPS",
    "CUDA_HOME",
    "HIP_PATH",
)


def test_what_steers_compilers_is_dropped_and_what_else_there_is_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton's, its compilers' and the toolkits' variables go, as Inductor's do; the path does not."""
    monkeypatch.setattr(os, "environ", dict.fromkeys((*STEERING, "TORCHINDUCTOR_MAX_AUTOTUNE", "PATH", "HOME"), "x"))
    clear_environment()
    assert {"PATH", "HOME"} <= os.environ.keys()
    assert not os.environ.keys() & {*STEERING, "TORCHINDUCTOR_MAX_AUTOTUNE"}


def test_no_gpu_of_this_host_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices that a user shows to processes are hidden from a compile: all hosts build alike."""
    monkeypatch.setattr(os, "environ", {"CUDA_VISIBLE_DEVICES": "0,1"})
    clear_environment()
    hidden = {"CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"}
    assert {name: os.environ[name] for name in hidden} == dict.fromkeys(hidden, "-1")


def test_what_compilers_keep_is_kept_in_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Inductor's and Triton's caches, and the place where Triton looks for kernels of a user's."""
    monkeypatch.setattr(os, "environ", {})
    use_folder(tmp_path)
    folders = {value for name, value in os.environ.items() if not name.endswith("LINE_INFO")}
    assert {"TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "TRITON_HOME"} <= os.environ.keys()
    assert all(Path(folder).is_relative_to(tmp_path) for folder in folders)


@pytest.mark.parametrize(
    ("target", "lines"),
    [
        ("cuda:sm_90", ['pip install "triton>=3.6,<3.8"', "pip install nvidia-cuda-cccl"]),
        ("hip:gfx942", ['pip install "triton>=3.6,<3.8"']),
    ],
)
def test_missing_parts_are_named_with_the_lines_that_bring_them(
    target: str, lines: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Before torch is imported, the step says what to install for the target."""
    original = importlib.util.find_spec

    def find_spec(name: str, *rest: Any) -> Any:
        return None if name in {"triton", "nvidia"} else original(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    with pytest.raises(TaskFailed) as caught:
        run(Job({"target": target}, {}, tmp_path, lambda *_: None))
    assert target in caught.value.message
    assert "`triton` is not installed" in caught.value.causes[0]
    assert (caught.value.hint or "").split("\n") == lines
