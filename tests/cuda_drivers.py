"""A stand-in for NVIDIA's driver, compiled from `targets/cuda_driver.c`: a host with the GPUs that a test asks for."""

from __future__ import annotations

import subprocess
from pathlib import Path

_SOURCE = Path(__file__).parent / "targets" / "cuda_driver.c"


def compile_driver(folder: Path) -> Path:
    """Compile `libcuda.so.1` into `folder` and return its path."""
    library = folder / "libcuda.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", library, _SOURCE], check=True)
    return library
