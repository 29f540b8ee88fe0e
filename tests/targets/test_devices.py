"""The device table: complete, with a source for every figure, and equal to what NVIDIA ships to programs."""

from __future__ import annotations

import os
import subprocess
from dataclasses import astuple
from pathlib import Path

import pytest

from maxbuild.targets.devices import Device, device_of
from maxbuild.targets.parts import cccl_include
from maxbuild.targets.sources import FIGURES, sources_of
from maxbuild.targets.spelling import Target, all_targets, parse_target

GPUS = [target for target in all_targets() if target.api != "cpu"]

_PRINT_TRAITS = """
#include <cstdio>
#include <cuda/__device/arch_traits.h>

template <cuda::arch_id arch> void print() {
    constexpr auto traits = cuda::arch_traits<arch>();
    std::printf("%d %zu %zu %d %d %d\\n", traits.warp_size, traits.max_shared_memory_per_block_optin,
                traits.max_shared_memory_per_multiprocessor, traits.max_registers_per_multiprocessor,
                traits.max_threads_per_multiprocessor, traits.max_threads_per_block);
}

int main() {
"""


@pytest.mark.parametrize("target", GPUS, ids=lambda target: target.spelling)
def test_every_gpu_target_has_a_device(target: Target) -> None:
    """What can be spelled can be asked for, under its own spelling, and no figure is left open."""
    device = device_of(target)
    assert device.target == target.spelling
    assert device.capability == target.capability
    known = Device(*astuple(device)[:-1], capability=(0, 0))
    assert all(getattr(known, figure) for figure in FIGURES if figure != "capability")


@pytest.mark.parametrize("target", GPUS, ids=lambda target: target.spelling)
def test_every_figure_has_a_source(target: Target) -> None:
    """A figure that came from nowhere cannot be added; the capability is one of CUDA's devices only."""
    expected = [figure for figure in FIGURES if getattr(device_of(target), figure) is not None]
    assert list(sources_of(target)) == expected
    assert all(source.title and source.section for source in sources_of(target).values())


def test_a_cpu_is_no_device() -> None:
    """The table is of GPUs: nothing is made up for another target."""
    with pytest.raises(KeyError):
        device_of(parse_target("cpu:x86-64-v3"))


def test_limits_of_cuda_are_those_that_nvidia_ships(tmp_path: Path) -> None:
    """Each figure that names NVIDIA's core compute libraries as its source is what their header says to a compiler."""
    include = cccl_include()
    if include is None or not (include / "cccl/cuda/__device/arch_traits.h").is_file():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("nvidia-cuda-cccl 13.3 is not installed")
    targets = [target for target in GPUS if target.api == "cuda"]
    calls = "".join(f"    print<cuda::arch_id::{target.arch}>();\n" for target in targets)
    source, program = tmp_path / "traits.cpp", tmp_path / "traits"
    source.write_text(f"{_PRINT_TRAITS}{calls}}}\n")
    subprocess.run(["g++", "-std=c++17", f"-I{include / 'cccl'}", "-o", program, source], check=True)
    printed = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines() == [_limits(device_of(target)) for target in targets]


def _limits(device: Device) -> str:
    figures = (
        device.warp_size,
        device.shared_memory_per_block,
        device.shared_memory_per_multiprocessor,
        device.registers_per_multiprocessor,
        device.max_threads_per_multiprocessor,
        device.max_threads_per_block,
    )
    return " ".join(map(str, figures))
