"""The CUDA toolkit's part in compiling a region, without the toolkit: headers from wheels, and stub libraries."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from maxbuild.targets.parts import cccl_include
from maxbuild.targets.toolkit import OWN_HEADERS, Toolkit

# What upstream links on a host with CUDA (`get_cpp_torch_device_options` in torch/_inductor/cpp_builder.py), and
# c10_cuda, whose symbols torch's headers use. Not libcudart: its name holds CUDA's version, and torch_cuda brings it.
_LIBRARIES: Mapping[str, str] = {
    "torch_cuda": "libtorch_cuda.so",
    "c10_cuda": "libc10_cuda.so",
    "cuda": "libcuda.so.1",
}


def _make_headers(folder: Path) -> None:
    cccl = cccl_include()
    assert cccl is not None
    # CUDA's headers are Triton's. Of CCCL they need `nv/target` alone; other wheels put headers beside it, so it is
    # taken out of that folder.
    (folder / "nv").symlink_to(cccl / "nv", target_is_directory=True)


TOOLKIT = Toolkit(("USE_CUDA",), ("{triton}/backends/nvidia/include", OWN_HEADERS), _LIBRARIES, _make_headers)
