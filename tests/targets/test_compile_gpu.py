"""Regions compiled for GPUs on a host without any: what is in the artifact, and that it is the same anywhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from compile_step import compile_in, write_region

from maxbuild.engine import hash_file
from maxbuild.targets.devices import device_of
from maxbuild.targets.spelling import parse_target

pytestmark = pytest.mark.slow

MODEL = "region/data/aotinductor/model"
LIBRARY = f"{MODEL}/region.wrapper.so"

# e_machine, and the architecture as the flags of an ELF header say it (CUDA: the compute capability; AMD: LLVM's
# AMDGPUUsage, "ELF Header").
MACHINES = {"cuda": 190, "hip": 224}
ARCHITECTURES = {"cuda:sm_90": 90, "cuda:sm_120": 120, "hip:gfx942": 0x4C}


class Compiled(NamedTuple):
    """What was compiled, and the archive's files."""

    target: str
    artifact: Path
    files: Mapping[str, bytes]

    @property
    def document(self) -> dict[str, Any]:
        """Return what the artifact says of its kernels."""
        document: dict[str, Any] = json.loads(self.files["region/maxbuild.json"])
        return document


def compiled(folder: Path, region: Path, target: str, **params: Any) -> Compiled:
    """Compile in `folder` and read what came of it."""
    artifact = compile_in(folder, region, target, params, PYTHONHASHSEED="0")
    with zipfile.ZipFile(artifact) as archive:
        return Compiled(target, artifact, {name: archive.read(name) for name in archive.namelist()})


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a decoder region of a Llama."""
    return write_region(tmp_path_factory.mktemp("llama"), "llama", torch.bfloat16, "decoder.full")


@pytest.fixture(scope="module")
def mixtral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a decoder region with a mixture of experts."""
    return write_region(tmp_path_factory.mktemp("mixtral"), "mixtral", torch.bfloat16, "decoder.full")


@pytest.fixture(scope="module", params=["cuda:sm_90", "hip:gfx942", "cuda:sm_120"])
def region(
    request: pytest.FixtureRequest, llama: Path, mixtral: Path, tmp_path_factory: pytest.TempPathFactory
) -> Compiled:
    """Return a compiled region; the one for sm_90 with PTX, the one for sm_120 of another model."""
    params = {"emit_ptx": True} if request.param == "cuda:sm_90" else {}
    source = mixtral if request.param == "cuda:sm_120" else llama
    return compiled(tmp_path_factory.mktemp("compiled") / "scratch", source, request.param, **params)


def read_elf(content: bytes) -> tuple[int, int]:
    """Return the machine and the flags of an ELF file's header."""
    assert content[:5] == b"\x7fELF\x02"
    return struct.unpack_from("<H", content, 18)[0], struct.unpack_from("<I", content, 48)[0]


def listed(command: str, *arguments: str, content: bytes, folder: Path) -> str:
    """Return what a program of binutils tells of an ELF file."""
    if shutil.which(command) is None:
        pytest.skip(f"{command} (binutils) is not installed")
    path = folder / "file.elf"
    path.write_bytes(content)
    return subprocess.run([command, *arguments, path], capture_output=True, text=True, check=True).stdout


def test_every_kernel_that_is_told_of_is_there_and_is_for_the_target(region: Compiled) -> None:
    """The document names each kernel's file, and each file is of the target's machine and architecture."""
    api, _, _ = region.target.partition(":")
    extension = {"cuda": "cubin", "hip": "hsaco"}[api]
    files = {f"{MODEL}/{kernel['file']}" for kernel in region.document["kernels"]}
    assert files == {name for name in region.files if name.endswith(f".{extension}")}
    assert len(files) > 4
    for name in files:
        machine, flags = read_elf(region.files[name])
        assert machine == MACHINES[api]
        # Before CUDA 13 the capability is the lowest byte, since then the one above.
        assert ARCHITECTURES[region.target] in (flags.to_bytes(4, "little") if api == "cuda" else [flags & 0xFF])


@pytest.mark.parametrize("region", ["hip:gfx942"], indirect=True)
def test_an_alternative_is_the_same_kernels_in_other_configurations(
    region: Compiled, llama: Path, tmp_path: Path
) -> None:
    """The next rank changes Inductor's kernels, and not those of ours, which have one configuration each."""
    alternative = compiled(tmp_path / "scratch", llama, region.target, rank=1)
    assert alternative.files.keys() == region.files.keys()
    kernels = {f"{MODEL}/{kernel['file']}": kernel["source"] for kernel in region.document["kernels"]}
    others = {name for name in kernels if alternative.files[name] != region.files[name]}
    assert {kernels[name] for name in others} == {"inductor"}
    assert len(others) > 2


def test_facts_of_kernels_are_those_of_the_device(region: Compiled) -> None:
    """Warps are as wide as the device's, and no kernel takes more shared memory than it has; ours are told apart."""
    device = device_of(parse_target(region.target))
    kernels = region.document["kernels"]
    assert region.document["schema"] == "maxbuild.launches.v1"
    assert region.document["target"] == region.target
    assert {kernel["warp_size"] for kernel in kernels} == {device.warp_size}
    assert all(0 <= kernel["shared_memory"] <= device.shared_memory_per_block for kernel in kernels)
    ours = {"attention", "experts"} if region.target == "cuda:sm_120" else {"attention"}
    sources = {re.sub("_.*", "", kernel["source"]) for kernel in kernels}
    assert sources == {"inductor", *(f"maxbuild.{operator}" for operator in ours)}


def test_the_library_names_each_kernels_file_and_entry(region: Compiled) -> None:
    """A library loads kernels by name from beside itself, so the names in it are bare, and of files that are there."""
    library = region.files[LIBRARY]
    named = {found.decode() for found in re.findall(rb"[\w./-]+\.(?:cubin|hsaco)", library)}
    assert named == {kernel["file"] for kernel in region.document["kernels"]}
    assert all(kernel["entry"].encode() in library for kernel in region.document["kernels"])


def test_loaders_of_all_torch_versions_find_the_metadata(region: Compiled) -> None:
    """They look for it by the name of the library, and before torch 2.13 by that of a source, which has to be there."""
    assert {LIBRARY, LIBRARY.replace(".so", ".cpp"), LIBRARY.replace(".so", "_metadata.json")} <= region.files.keys()
    assert region.files[LIBRARY.replace(".so", ".cpp")] == b""


def test_the_library_needs_torchs_own_libraries_for_the_target(region: Compiled, tmp_path: Path) -> None:
    """It names those that hold what it calls, no versioned runtime, and no folder to search."""
    told = listed("readelf", "-d", "-W", content=region.files[LIBRARY], folder=tmp_path)
    needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", told))
    own = {
        "cuda": {"libtorch_cuda.so", "libc10_cuda.so", "libcuda.so.1"},
        "hip": {"libtorch_hip.so", "libc10_hip.so"},
    }[region.target.partition(":")[0]]
    assert {name for name in needed if re.search("cuda|hip|hsa|rocm", name)} == own
    assert "libtorch_cpu.so" in needed
    assert "RPATH" not in told
    assert "RUNPATH" not in told


def test_the_library_calls_the_targets_interface_and_no_other(region: Compiled, tmp_path: Path) -> None:
    """Code for ROCm calls HIP and nothing of CUDA, and the other way round."""
    told = listed("readelf", "--dyn-syms", "-W", content=region.files[LIBRARY], folder=tmp_path)
    undefined = re.findall(r" UND (\w+)", told)
    assert {"cuda": "cuLaunchKernel", "hip": "hipModuleLaunchKernel"}[region.target.partition(":")[0]] in undefined
    other = {"cuda": r"hip[A-Z]", "hip": r"cuda[A-Z]|cu[A-Z]"}[region.target.partition(":")[0]]
    assert not [name for name in undefined if re.match(other, name)]


def test_the_library_holds_baseline_instructions_alone(region: Compiled, tmp_path: Path) -> None:
    """Neither AVX nor anything wider, whatever the building host has."""
    assert json.loads(region.files[LIBRARY.replace(".so", "_metadata.json")])["AOTI_CPU_ISA"] == "INVALID_VEC_ISA"
    told = listed("objdump", "-d", content=region.files[LIBRARY], folder=tmp_path)
    assert "%xmm" in told
    assert not re.search(r"%[yz]mm|\tv(?:mov|add|pxor)", told)


def test_no_file_names_a_folder_of_the_host(region: Compiled, tmp_path: Path) -> None:
    """Neither where it was built nor where torch is."""
    places = [str(tmp_path.parent).encode(), sys.prefix.encode(), str(Path.home()).encode() + b"/", b".py"]
    assert not [(name, place) for name, content in region.files.items() for place in places if place in content]


@pytest.mark.parametrize("region", ["cuda:sm_90", "hip:gfx942"], indirect=True)
def test_artifacts_are_equal_to_the_byte_anywhere(region: Compiled, llama: Path, tmp_path: Path) -> None:
    """Folder, HOME, user, hash seed and variables that steer Triton change no byte, and nothing is left in HOME."""
    home = tmp_path / "home"
    home.mkdir()
    other = {
        "PYTHONHASHSEED": "7",
        "HOME": str(home),
        "USER": "somebody",
        "LOGNAME": "somebody",
        "TRITON_CACHE_DIR": str(home / "cache"),
        "TRITON_DISABLE_LINE_INFO": "0",
        "PTXAS_OPTIONS": "-O0",
        "TORCHINDUCTOR_MAX_AUTOTUNE": "1",
        "CUDA_HOME": "/nowhere",
        "OMP_NUM_THREADS": "1",
    }
    params = {"emit_ptx": True} if region.target == "cuda:sm_90" else {}
    again = compile_in(tmp_path / "b" / "deeper", llama, region.target, params, **other)
    assert hash_file(again) == hash_file(region.artifact)
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("region", ["cuda:sm_90"], indirect=True)
def test_ptx_lies_beside_each_kernel_and_the_library_knows(region: Compiled, tmp_path: Path) -> None:
    """Each cubin has its PTX, for the same entry; the library falls back on it by name. Triton's assembler takes it."""
    kernels = region.document["kernels"]
    assert {name for name in region.files if name.endswith(".ptx")} == {f"{MODEL}/{k['name']}.ptx" for k in kernels}
    assert b".ptx" in region.files[LIBRARY]
    for kernel in kernels:
        ptx = region.files[f"{MODEL}/{kernel['name']}.ptx"]
        assert f".visible .entry {kernel['entry']}(".encode() in ptx
    triton = pytest.importorskip("triton")
    (tmp_path / "kernel.ptx").write_bytes(ptx)
    ptxas = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
    subprocess.run([ptxas, "--gpu-name=sm_90a", tmp_path / "kernel.ptx", "-o", os.devnull], check=True)


@pytest.mark.parametrize("region", ["hip:gfx942"], indirect=True)
def test_without_emit_ptx_there_is_none(region: Compiled) -> None:
    """PTX is there where it is asked for, and nowhere else."""
    assert not [name for name in region.files if name.endswith(".ptx")]
    assert b".ptx" not in region.files[LIBRARY]


@pytest.mark.parametrize("region", ["cuda:sm_90"], indirect=True)
def test_profiled_regions_name_themselves_and_their_kernels(region: Compiled, llama: Path, tmp_path: Path) -> None:
    """With `gpu_profiling: on` a region tells torch's profiler of itself and each kernel; without, of nothing.

    No folder of this host is in what it tells.
    """
    begin = b"aoti_record_function_start"
    assert begin not in region.files[LIBRARY]
    profiled = compiled(tmp_path / "profiled", llama, region.target, gpu_profiling="on")
    library = profiled.files[LIBRARY]
    assert begin in library
    assert b"\0inductor_wrapper_call\0" in library
    for kernel in profiled.document["kernels"]:
        assert f"kernels_.{kernel['name']}\0".encode() in library
    test_no_file_names_a_folder_of_the_host(profiled, tmp_path)
