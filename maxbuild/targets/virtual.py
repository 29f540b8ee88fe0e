"""A GPU that is not there: what torch and Triton ask of a driver, answered from the table of devices.

Invariant: nothing here reaches a driver, and what only a device could do (load, launch, time) fails or does nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NoReturn

import torch
from torch._dynamo.device_interface import DeviceInterface
from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase

from maxbuild.targets.devices import Device

# What a CUDA program may use of shared memory per block without asking for more (CUDA C++ Programming Guide, table
# "Technical Specifications per Compute Capability").
_STATIC_SHARED_MEMORY = 48 << 10


def compute_capability(device: Device) -> int | str:
    """Return the device's architecture as Inductor and Triton know it: 90 for `sm_90`, `gfx942` for itself."""
    if device.capability is None:
        return device.target.partition(":")[2]
    major, minor = device.capability
    return 10 * major + minor


def gpu_target(device: Device) -> GPUTarget:
    """Return what Triton compiles for."""
    return GPUTarget(device.target.partition(":")[0], compute_capability(device), device.warp_size)


def properties(device: Device) -> SimpleNamespace:
    """Return the device's properties under the names of `torch.cuda.get_device_properties`."""
    major, minor = capability(device)
    return SimpleNamespace(
        name=device.name,
        major=major,
        minor=minor,
        multi_processor_count=device.multiprocessors,
        warp_size=device.warp_size,
        regs_per_multiprocessor=device.registers_per_multiprocessor,
        max_threads_per_multi_processor=device.max_threads_per_multiprocessor,
        max_threads_per_block=device.max_threads_per_block,
        shared_memory_per_block=_STATIC_SHARED_MEMORY if device.capability else device.shared_memory_per_block,
        shared_memory_per_block_optin=device.shared_memory_per_block,
        shared_memory_per_multiprocessor=device.shared_memory_per_multiprocessor,
        L2_cache_size=device.l2_cache,
        total_memory=device.memory,
        gcnArchName=str(compute_capability(device)),
    )


def capability(device: Device) -> tuple[int, int]:
    """Return what `torch.cuda.get_device_capability` gives; on ROCm that is the architecture's two leading digits."""
    if device.capability is not None:
        return device.capability
    # The last two characters are the minor version and the stepping: gfx942 is 9.4.2, gfx1100 is 11.0.0, gfx90a 9.0.10.
    digits = str(compute_capability(device)).removeprefix("gfx")
    return int(digits[:-2]), int(digits[-2], 16)


def device_interface(device: Device) -> type[DeviceInterface]:
    """Return the interface by which Dynamo and Inductor ask for a device of the kind `cuda`."""
    facts, arch = properties(device), compute_capability(device)
    answers: dict[str, Callable[..., Any]] = {
        "current_device": lambda: 0,
        "device_count": lambda: 1,
        "is_available": lambda: True,
        "exchange_device": lambda _index: 0,
        "maybe_exchange_device": lambda _index: 0,
        "set_device": lambda _device: None,
        "synchronize": lambda _device=None: None,
        "get_raw_stream": lambda _index: 0,
        "get_device_properties": lambda _device=None: facts,
        "get_compute_capability": lambda _device=None: arch,
        "is_bf16_supported": lambda **_: True,
        "is_triton_capable": lambda _device=None: True,
        "raise_if_triton_unavailable": lambda _device=None: None,
    }
    worker = type("Worker", (), {"get_device_properties": staticmethod(answers["get_device_properties"])})
    members = {name: staticmethod(answer) for name, answer in answers.items()}
    return type("Virtual", (DeviceInterface,), {**members, "Worker": worker})


class VirtualDriver(DriverBase):  # type: ignore[misc] # Triton is untyped
    """Triton's driver for a device that is not there. Kernels are compiled for it, checked against it, never run."""

    def __init__(self, device: Device) -> None:
        """Stand for `device`."""
        super().__init__()
        self._target = gpu_target(device)
        self.utils = _Utilities(device)
        self.launcher_cls = _Launcher
        self.get_current_device = lambda: 0
        self.set_current_device = lambda _index: None
        self.get_current_stream = lambda _index: 0
        self.get_device_capability = lambda _index=None: capability(device)

    @classmethod
    def is_active(cls) -> bool:
        """Say that this driver can be used."""
        return True

    def map_python_to_cpp_type(self, ty: str) -> NoReturn:
        """Refuse: it serves Triton's own launchers."""
        raise NotImplementedError(ty)

    def get_current_target(self) -> GPUTarget:
        """Return what kernels are compiled for."""
        return self._target

    def get_active_torch_device(self) -> torch.device:
        """Return the device as torch calls it; ROCm's are called `cuda` too."""
        return torch.device("cuda", 0)

    def get_benchmarker(self) -> NoReturn:
        """Refuse: there is nothing to time."""
        raise NotImplementedError


class _Utilities:
    """What Triton does with a binary: it loads it, and asks how much shared memory the device would have had."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def get_device_properties(self, _index: int) -> dict[str, int]:
        return {
            "max_shared_mem": self._device.shared_memory_per_block,
            "max_num_regs": self._device.registers_per_multiprocessor,
            "multiprocessor_count": self._device.multiprocessors,
            "warpSize": self._device.warp_size,
        }

    def load_binary(self, _name: str, _binary: bytes, _shared: int, _index: int) -> tuple[int, int, int, int, int]:
        """Return module, function, registers, spills and threads per block, of which only the last is known."""
        return 1, 1, 0, 0, self._device.max_threads_per_block


class _Launcher:
    """Takes the place of the launcher that Triton would compile for each kernel."""

    def __init__(self, _source: object, _metadata: object) -> None:
        pass

    def __call__(self, *_arguments: object, **_named: object) -> NoReturn:
        raise NotImplementedError("this device is not there")
