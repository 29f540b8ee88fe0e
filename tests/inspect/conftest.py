"""Fixtures of the tests of `inspect`: kernels and libraries, each compiled once for a run, and packages of them."""

from __future__ import annotations

import functools
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# At the end: other folders' tests import modules of theirs by their bare names.
sys.path.append(str(Path(__file__).parent))

from inspect_samples import Kernels, Workshop, compile_kernel, write_package, write_region


@pytest.fixture(scope="session")
def kernels(shared_folder: Path) -> Iterator[Kernels]:
    """Return a function that gives a kernel by kind and target; Triton keeps what it compiled for all workers."""
    pytest.importorskip("triton")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(shared_folder / "triton"))
        patch.setenv("TRITON_DISABLE_LINE_INFO", "1")
        yield functools.cache(compile_kernel)


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Return where libraries are made."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ here")
    return Workshop(tmp_path_factory.mktemp("workshop"))


@pytest.fixture(scope="session")
def packages(kernels: Kernels, workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return sound packages by target: two for GPUs, with four kernels in two regions, and one for CPUs."""
    folder = tmp_path_factory.mktemp("packages")
    made = {}
    for target in ("cuda:sm_90", "hip:gfx942"):
        api, arch = target.split(":")
        regions = {}
        for region, kinds in (("before", ("add",)), ("decoder.full", ("matmul", "crowded", "wide"))):
            compiled = [kernels(kind, target) for kind in kinds]
            wrapper = workshop.wrapper(api, [(c.launch.file, c.launch.entry) for c in compiled])
            metadata = {"AOTI_DEVICE_KEY": "cuda"}
            regions[region] = write_region(folder / "parts" / arch / region, wrapper, target, compiled, metadata)
        made[target] = write_package(folder / f"{api}-{arch}", target, regions)
    source = 'extern "C" void AOTInductorModelRun(float* x) { for (int i = 0; i < 4096; i++) x[i] *= x[i] + 1; }\n'
    library = workshop.library(source, "-O3", "-march=x86-64-v3")
    region = write_region(folder / "parts" / "cpu", library, "cpu:x86-64-v3", metadata={"AOTI_CPU_ISA": "AVX2"})
    made["cpu:x86-64-v3"] = write_package(folder / "cpu-x86-64-v3", "cpu:x86-64-v3", {"decoder.full": region})
    return made
