"""The parts that a build needs: each one that is missing is named, and looking imports none of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from maxbuild.plan import kinds

ROOT = Path(__file__).parents[2]

_ASK = """
import json, sys
from maxbuild.targets.parts import cccl_include, cccl_wheel, missing_parts
from maxbuild.targets.spelling import parse_target
print(json.dumps([
    [part.name for part in missing_parts(parse_target(sys.argv[1]))],
    [part.install_hint for part in missing_parts(parse_target(sys.argv[1]))],
    str(cccl_include()),
    sorted({"torch", "triton", "nvidia"} & sys.modules.keys()),
    cccl_wheel(),
]))
"""

PARTS = {
    "torch": ("torch/__init__.py",),
    "triton": (
        "triton/__init__.py",
        "triton/backends/nvidia/bin/ptxas",
        "triton/backends/nvidia/include/cuda.h",
        "triton/backends/amd/lib/ocml.bc",
        "triton/backends/amd/include/hip/hip_runtime.h",
    ),
    "nvidia-cuda-cccl": ("nvidia/cu13/include/nv/target",),
}
TOOLS = ("g++", "strip")


def ask(folder: Path, target: str, *, without: str = "") -> list[list[str]]:
    """Ask in a process that finds nothing installed but what is made here: empty files of the parts, and tools."""
    for name in {*PARTS, *TOOLS} - {without}:
        for file in (f"bin/{name}",) if name in TOOLS else PARTS[name]:
            path = folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            # A package that raises when it is imported.
            path.write_text("raise AssertionError" if path.suffix == ".py" else "")
            path.chmod(0o755)
    environ = {"PATH": str(folder / "bin"), "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)])}
    # -S: no site-packages.
    command = [sys.executable, "-S", "-c", _ASK, target]
    return json.loads(subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout)


def add_wheel(folder: Path, name: str, file: str) -> None:
    """Put a wheel of one file into `folder`, as an installer does."""
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).touch()
    told = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    told.mkdir()
    (told / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\n")
    (told / "RECORD").write_text(f"{file},sha256=0,0\n{told.name}/RECORD,,\n")


@pytest.mark.parametrize("target", ["cpu:x86-64-v3", "cuda:sm_90", "hip:gfx942"])
def test_nothing_is_missing_where_everything_is(tmp_path: Path, target: str) -> None:
    """Files are looked for, and nothing of them is imported."""
    missing, _, include, imported, _ = ask(tmp_path, target)
    assert (missing, imported) == ([], [])
    assert include == str(tmp_path / "nvidia/cu13/include")


@pytest.mark.parametrize(
    ("target", "part", "hint"),
    [
        ("cpu:x86-64-v3", "torch", "pip install"),
        ("cpu:x86-64-v3", "g++", "apt-get install g++"),
        ("cpu:x86-64-v3", "strip", "binutils"),
        ("cuda:sm_90", "triton", "pip install"),
        ("cuda:sm_90", "nvidia-cuda-cccl", "pip install nvidia-cuda-cccl"),
        ("hip:gfx942", "triton", "pip install"),
    ],
)
def test_a_missing_part_is_named_with_a_way_to_get_it(tmp_path: Path, target: str, part: str, hint: str) -> None:
    """One part less gives one name more, and the line that brings it."""
    missing, hints, *_ = ask(tmp_path, target, without=part)
    assert missing == ["C++ compiler" if part == "g++" else part]
    assert hint in hints[0]


@pytest.mark.parametrize(("target", "part"), [("cpu:x86-64-v3", "triton"), ("hip:gfx942", "nvidia-cuda-cccl")])
def test_what_a_target_has_no_use_for_is_not_missing(tmp_path: Path, target: str, part: str) -> None:
    """A CPU needs no Triton, an AMD GPU no header of NVIDIA's."""
    assert ask(tmp_path, target, without=part)[0] == []


@pytest.mark.parametrize(
    ("target", "file"), [("cuda:sm_90", "backends/nvidia/bin/ptxas"), ("hip:gfx942", "backends/amd/lib/ocml.bc")]
)
def test_a_triton_without_what_it_bundles_is_missing(tmp_path: Path, target: str, file: str) -> None:
    """A Triton built without a vendor's tools, as some distributions do it, is told before a compile fails on it."""
    ask(tmp_path, target)
    (tmp_path / "triton" / file).unlink()
    assert ask(tmp_path, target, without="triton")[0] == ["triton"]


def test_headers_of_the_older_wheel_count(tmp_path: Path) -> None:
    """`nvidia-cuda-cccl-cu12` has the header at another place, and is known by the list of its files."""
    add_wheel(tmp_path, "nvidia-cuda-cccl-cu12", "nvidia/cuda_cccl/include/nv/target")
    missing, _, include, _, wheel = ask(tmp_path, "cuda:sm_90", without="nvidia-cuda-cccl")
    assert (missing, include) == ([], str(tmp_path / "nvidia/cuda_cccl/include"))
    assert wheel == "nvidia-cuda-cccl-cu12"


def test_of_two_wheels_the_one_whose_header_is_read_counts(tmp_path: Path) -> None:
    """Both are installed; headers come from one of them, and that one is named."""
    add_wheel(tmp_path, "nvidia-cuda-cccl-cu12", "nvidia/cuda_cccl/include/nv/target")
    add_wheel(tmp_path, "nvidia-cuda-cccl", "nvidia/cu13/include/nv/target")
    *_, include, _, wheel = ask(tmp_path, "cuda:sm_90")
    assert (include, wheel) == (str(tmp_path / "nvidia/cu13/include"), "nvidia-cuda-cccl")


def test_without_any_wheel_the_usual_one_is_named(tmp_path: Path) -> None:
    """A key then holds that it is not installed, and changes when it comes."""
    assert ask(tmp_path, "cuda:sm_90", without="nvidia-cuda-cccl")[-1] == "nvidia-cuda-cccl"


def test_keys_hold_the_version_of_the_wheel_whose_header_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compile for CUDA is keyed by that wheel; for AMD's GPUs and CPUs it makes no difference."""
    monkeypatch.setattr(kinds, "cccl_wheel", lambda: "nvidia-cuda-cccl-cu12")
    cuda, hip, cpu = (
        kinds.toolchain_of("compile", {"target": target}) for target in ("cuda:sm_90", "hip:gfx942", "cpu:x86-64-v3")
    )
    assert "nvidia-cuda-cccl-cu12" in cuda
    assert not any("cccl" in name for name in {*hip, *cpu} | cuda.keys() - {"nvidia-cuda-cccl-cu12"})


def test_hints_ask_for_the_versions_that_maxbuild_depends_on(tmp_path: Path) -> None:
    """A line that a hint says to type installs what `pyproject.toml` allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    allowed = [*project["dependencies"], *project["optional-dependencies"]["cuda"]]
    for part in PARTS:
        _, (hint,), *_ = ask(tmp_path / part, "cuda:sm_90", without=part)
        requirement = hint.removeprefix("pip install ").strip('"')
        assert any(line.startswith(requirement) for line in allowed), hint
