"""The CUDA toolkit's part in compiling a region, without the toolkit: headers from wheels, and stub libraries."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from maxbuild.targets.parts import cccl_include, triton_folder
from maxbuild.targets.toolkit import Toolkit, link_arguments

# What upstream links on a host with CUDA (`get_cpp_torch_device_options` in torch/_inductor/cpp_builder.py), and
# c10_cuda, whose symbols torch's headers use. Not libcudart: its name holds CUDA's version, and torch_cuda brings it.
_LIBRARIES: Mapping[str, str] = {
    "torch_cuda": "libtorch_cuda.so",
    "c10_cuda": "libc10_cuda.so",
    "cuda": "libcuda.so.1",
}


def make_toolkit(folder: Path) -> Toolkit:
    """Lay out headers and stub libraries under `folder`; no part of the target is missing."""
    triton, cccl = triton_folder(), cccl_include()
    assert triton is not None
    assert cccl is not None
    # CUDA's headers are Triton's. Of CCCL they need `nv/target` alone; other wheels put headers beside it, so it is
    # taken out of that folder.
    headers = folder / "include"
    headers.mkdir(parents=True)
    (headers / "nv").symlink_to(cccl / "nv", target_is_directory=True)
    nvidia = triton / "backends" / "nvidia" / "include"
    return Toolkit(("USE_CUDA",), (nvidia, headers), link_arguments(folder / "lib", _LIBRARIES))
