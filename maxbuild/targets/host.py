"""What this host is in the spelling of targets, and what it can run.

Invariant: all that probes a host is here. It imports nothing that a server does not need, torch least of all, and takes
no more of a GPU than the drivers tell whoever asks.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from maxbuild.errors import UsageError
from maxbuild.targets.spelling import ARCHITECTURES, Target

if TYPE_CHECKING:
    import ctypes

# The flags of /proc/cpuinfo that tell a level from the one below. A host has a level only if it has all those below.
_LEVEL_FLAGS: Mapping[str, frozenset[str]] = {
    "x86-64-v2": frozenset({"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"}),
    "x86-64-v3": frozenset({"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"}),
    "x86-64-v4": frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
}

# CUdevice_attribute in NVIDIA's cuda.h.
_CAPABILITY_MAJOR = 75
_CAPABILITY_MINOR = 76

_CUDA_RESULTS: Mapping[int, str] = {
    3: "not initialized",
    34: "the library is a stub, not the driver",
    100: "no device",
    803: "the library does not fit the kernel's driver",
}

_DEVICES: Mapping[str, str] = {"cpu": "x86-64 CPU", "cuda": "NVIDIA GPU", "hip": "AMD GPU"}


class _NoDevice(Exception):
    """Says why there is no device, or none that this process may use."""


class Found(NamedTuple):
    """What a host has of an API, whether packages can be built for it or not, and where that is nothing the reason.

    `archs` are of a CPU all its levels, lowest first, and of GPUs one architecture each, in the order of the driver.
    """

    api: str
    archs: Sequence[str]
    reason: str | None = None

    def __str__(self) -> str:
        name = _DEVICES.get(self.api, self.api)
        if self.reason is not None:
            return f"this host has no {name}: {self.reason}"
        shown = self.archs[-1:] if self.api == "cpu" else dict.fromkeys(self.archs)
        return f"this host's {name} is " + " and ".join(f"{self.api}:{arch}" for arch in shown)


@dataclass(frozen=True, slots=True)
class Host:
    """The places at which a host tells what it is; by default those of this host."""

    cpuinfo: Path = Path("/proc/cpuinfo")
    cuda_driver: str = "libcuda.so.1"
    kfd: Path = Path("/dev/kfd")
    kfd_nodes: Path = Path("/sys/class/kfd/kfd/topology/nodes")

    def target(self, api: str) -> Target:
        """Return the host's target of `api`: of its CPU the best level, of several GPUs the first one's.

        Raise UsageError where it has none, or one that packages cannot be built for.
        """
        found = self.find(api)
        meaning = f"target `{api}` means this host's {_DEVICES[api]}"
        if found.reason is not None:
            hint = f"spell the target in full: {_known(api)}"
            raise UsageError(f"{meaning}, and there is none", causes=[found.reason], hint=hint)
        target = Target(api, found.archs[-1] if api == "cpu" else found.archs[0])
        if target.arch not in ARCHITECTURES[api]:
            hint = f"spell a target in full: {self._fitting(api) or _known(api)}"
            raise UsageError(f"{meaning}, and packages cannot be built for `{target.spelling}`", hint=hint)
        return target

    def find(self, api: str) -> Found:
        """Return what the host has of `api`."""
        try:
            match api:
                case "cpu":
                    return Found(api, _levels(self.cpuinfo))
                case "cuda":
                    return Found(api, _cuda_archs(self.cuda_driver))
                case "hip":
                    return Found(api, _hip_archs(self.kfd, self.kfd_nodes))
                case _:
                    raise _NoDevice("nothing of that name is known here")
        except _NoDevice as error:
            return Found(api, (), str(error))

    def runs(self, target: Target) -> bool:
        """Tell whether the host can run what is built for `target`, on any one of its GPUs where it has several."""
        known = target.arch in ARCHITECTURES.get(target.api, ())
        return known and any(runs_on(target, Target(target.api, arch)) for arch in self.find(target.api).archs)

    def _fitting(self, api: str) -> str:
        fitting = [f"`{api}:{arch}`" for arch in ARCHITECTURES[api] if self.runs(Target(api, arch))]
        return f"{' and '.join(fitting)} would run on it" if fitting else ""


def host_target(api: str) -> Target:
    """Return this host's target of `api`; raise UsageError where it has none that packages can be built for."""
    return Host().target(api)


def _known(api: str) -> str:
    return ", ".join(f"`{api}:{arch}`" for arch in ARCHITECTURES[api])


def runs_on(target: Target, device: Target) -> bool:
    """Tell whether what is built for `target` runs on `device`, both of one API.

    CUDA: code for X.y runs on X.z where z >= y (CUDA C++ Programming Guide, "Binary Compatibility"), unless it is code
    for `sm_90a` and the like, which run on that alone (PTX ISA, ".target"); and that is what Triton makes of every
    capability from 9.0 on (`sm_arch_from_capability` in triton/backends/nvidia/compiler.py).
    """
    built, there = target.capability, device.capability
    if built is None or there is None or built >= (9, 0):
        return target == device
    return built[0] == there[0] and built[1] <= there[1]


def _levels(cpuinfo: Path) -> Sequence[str]:
    flags = _cpu_flags(cpuinfo)
    levels: list[str] = []
    for level, needed in _LEVEL_FLAGS.items():
        if not needed <= flags:
            break
        levels.append(level)
    if not levels:
        raise _NoDevice(f"{cpuinfo} tells of no CPU with all of x86-64-v2 ({platform.machine()})")
    return levels


def _cpu_flags(cpuinfo: Path) -> frozenset[str]:
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return frozenset()
    return next((frozenset(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), frozenset())


def _cuda_archs(library: str) -> Sequence[str]:
    """Return the architecture of each GPU that CUDA shows to this process.

    Trap: after cuInit, children that are forked cannot use CUDA. Ours are started anew.
    """
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":  # the driver would say so too, after a while
        raise _NoDevice("CUDA_VISIBLE_DEVICES is empty")
    import ctypes  # noqa: PLC0415 - most hosts are asked for their CPU alone

    try:
        driver = ctypes.CDLL(library)
    except OSError as error:
        raise _NoDevice(f"no driver: {error}") from None
    _ask(driver, "cuInit", 0)
    count = ctypes.c_int()
    _ask(driver, "cuDeviceGetCount", ctypes.byref(count))
    if count.value == 0:
        raise _NoDevice("the driver has no device")
    return [_cuda_arch(driver, ordinal) for ordinal in range(count.value)]


def _cuda_arch(driver: ctypes.CDLL, ordinal: int) -> str:
    import ctypes  # noqa: PLC0415

    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    _ask(driver, "cuDeviceGet", ctypes.byref(device), ordinal)
    _ask(driver, "cuDeviceGetAttribute", ctypes.byref(major), _CAPABILITY_MAJOR, device)
    _ask(driver, "cuDeviceGetAttribute", ctypes.byref(minor), _CAPABILITY_MINOR, device)
    return f"sm_{major.value}{minor.value}"


def _ask(driver: ctypes.CDLL, function: str, *arguments: object) -> None:
    """Call a function of the driver. It answers 100, CUDA_ERROR_NO_DEVICE, where it is installed and has no GPU."""
    result = getattr(driver, function)(*arguments)
    if result != 0:
        raise _NoDevice(f"{function} answers {result}, {_CUDA_RESULTS.get(result, 'see CUresult in cuda.h')}")


def _hip_archs(kfd: Path, nodes: Path) -> Sequence[str]:
    """Return the processor of each GPU that the kernel's driver for computing (KFD) lets this process use."""
    if not os.access(kfd, os.R_OK | os.W_OK):
        raise _NoDevice(f"{kfd} is not there, or not for this user")
    found = [_processor(version) for version in _kfd_versions(nodes) if version]  # a CPU's is 0
    if not found:
        raise _NoDevice(f"{nodes} lists no GPU")
    return found


def _kfd_versions(nodes: Path) -> Iterator[int]:
    """Yield `gfx_target_version` of each node that can be read, by their numbers."""
    try:
        folders = sorted(nodes.iterdir(), key=lambda folder: (len(folder.name), folder.name))
    except OSError:
        return
    for folder in folders:
        try:
            lines = (folder / "properties").read_text().splitlines()
        except OSError:  # the kernel refuses devices that a container was not given
            continue
        properties = dict(line.split(maxsplit=1) for line in lines if " " in line)
        yield int(properties.get("gfx_target_version", "0"))


def _processor(version: int) -> str:
    """Return LLVM's name for a `gfx_target_version`: 90010 is 9.0.10 and gfx90a.

    As in HSA_GET_GFX_VERSION_MAJOR, _MINOR and _STEP of ROCm's libhsakmt.h; the name has the last two in hexadecimal.
    """
    major, minor, stepping = version // 10_000, version // 100 % 100, version % 100
    return f"gfx{major}{minor:x}{stepping:x}"
