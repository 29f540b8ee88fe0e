"""What compiling for a GPU touches inside torch and Triton: each name is where it is looked for, and as it is used."""

from __future__ import annotations

import ctypes
import re
from importlib import metadata
from pathlib import Path

import pytest
import torch

from maxbuild.targets import gpu, hip, upstream
from maxbuild.targets.parts import triton_folder
from maxbuild.targets.upstream import TOUCHED, Touched, moved

VERSIONS = f"torch {metadata.version('torch')}, triton {metadata.version('triton')}"
HEADERS = Path(torch.__file__).parent / "include" / "torch" / "csrc" / "inductor"

# Names of torch's own that look like CUDA's.
TORCHS_OWN = re.compile(r"CUDA(?:Guard|StreamGuard)|cuda_")


@pytest.mark.parametrize("touched", TOUCHED, ids=lambda touched: f"{touched.module}.{touched.name}")
def test_a_touched_name_is_there_and_takes_what_it_is_given(touched: Touched) -> None:
    """The name exists, and its parameters begin with those that are relied on."""
    problem = moved(touched)
    assert problem is None, f"{VERSIONS}: {problem}; it was as expected up to torch 2.13.0 and Triton 3.7.1"


def test_a_name_that_moved_is_told_with_what_it_was_for() -> None:
    """A missing name and a changed signature are told apart."""
    gone = Touched("torch._inductor.codecache", "AotCodeCompiler.build", "it compiles")
    assert moved(gone) == "`torch._inductor.codecache.AotCodeCompiler.build` is gone (it compiles)"
    changed = Touched("torch._inductor.graph", "is_same_tensor", "it compares", ("left", "right"))
    assert moved(changed) == "`torch._inductor.graph.is_same_tensor` takes (data, value), not (left, right, …)"


def test_regions_load_kernels_by_the_call_that_ptx_is_added_to() -> None:
    """`emit_ptx` replaces one line of the code that upstream writes for every region."""
    from torch._inductor.codegen.cuda.device_op_overrides import CUDADeviceOpOverrides

    source = CUDADeviceOpOverrides().kernel_driver()
    assert source.count(upstream.LOAD_KERNEL) == 1, f"{VERSIONS}: `kernel_driver` loads kernels in another way"
    assert "CUmodule mod;" in source
    assert "std::string filePath" in source


def test_every_option_that_is_set_is_one_of_inductors() -> None:
    """An option that upstream renamed would be refused in the midst of a compile."""
    from torch._inductor import config

    wanted = gpu._options(Path("g++")).keys()
    assert wanted <= config.get_config_copy().keys(), VERSIONS


def test_the_table_of_guards_is_where_it_is_looked_for() -> None:
    """libc10 exports the registry of device guards and what registers one, and the CPU's is there to be lent."""
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
    guards = (ctypes.c_void_p * 2).in_dll(library, upstream._GUARDS)
    assert guards[upstream._CPU], f"{VERSIONS}: no device guard for CPUs"
    assert library[upstream._REGISTER_GUARD]


def test_every_cuda_name_of_the_runtimes_headers_has_one_of_hips() -> None:
    """What AOTInductor's headers call of CUDA is in the map for HIP, so code for ROCm compiles without ROCm."""
    files = [
        path for folder in ("aoti_runtime", "aoti_include", "cpp_wrapper") for path in (HEADERS / folder).rglob("*.h")
    ]
    code = "\n".join(re.sub(r"//.*", "", path.read_text()) for path in files if "lazy_triton" not in path.name)
    used = set(re.findall(r"\b(?:cuda[A-Z]\w*|cu[A-Z]\w*|CU[a-z]\w*|CUDA_SUCCESS)\b", code))
    assert {name for name in used if not TORCHS_OWN.match(name)} <= hip._NAMES.keys(), VERSIONS


def test_every_name_that_cudas_are_mapped_to_is_one_of_hips() -> None:
    """HIP's headers, as Triton brings them, declare each."""
    folder = triton_folder()
    assert folder is not None
    headers = (folder / "backends" / "amd" / "include" / "hip").rglob("*.h")
    declared = set(re.findall(r"\bhip\w+", "\n".join(path.read_text(errors="replace") for path in headers)))
    assert set(hip._NAMES.values()) <= declared, VERSIONS
