"""One kernel's file held against how it is launched and against the GPU that it is built for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from maxbuild.inspect import amd, cuda
from maxbuild.inspect.checks import Check, failed, judged, listed, passed, unchecked
from maxbuild.inspect.elf import Elf, NotElf, read_elf
from maxbuild.inspect.gcn import UnknownInstruction
from maxbuild.inspect.kernel import Kernel, Launch, Usage
from maxbuild.inspect.tools import ToolFailed
from maxbuild.targets.devices import Device
from maxbuild.targets.spelling import Target

_MACHINES = {"cuda": cuda.MACHINE, "hip": amd.MACHINE}


@dataclass(frozen=True, slots=True)
class Aim:
    """What a package is inspected for: its target, the device (None for CPUs), and whether instructions are counted."""

    target: Target
    device: Device | None
    with_instructions: bool


@dataclass(frozen=True, slots=True)
class Warned:
    """Something that a check would not fail for, and that its maker should know: what it is about, and what it is."""

    subject: str
    text: str


class _File(NamedTuple):
    """A kernel's file, and the kernel as far as it is known without looking into it."""

    subject: str
    data: bytes
    elf: Elf
    kernel: Kernel


def inspect_kernel(region: str, launch: Launch, data: bytes, aim: Aim) -> tuple[Kernel, list[Check]]:
    """Return the facts of the kernel in `data`, as many as can be had, and the checks of its file."""
    subject, kernel = f"{region} {launch.name}", Kernel(launch, len(data))
    machine = _MACHINES[aim.target.api]
    read = _read_cuda if aim.target.api == "cuda" else _read_amd
    try:
        elf = read_elf(data)
        if elf.machine != machine:
            return kernel, [failed("machine", subject, f"`{launch.file}` is for {elf.machine}, not for {machine}")]
        kernel, checks = read(_File(subject, data, elf, kernel), aim)
    except (NotElf, ToolFailed) as error:
        return kernel, [failed("machine", subject, f"`{launch.file}` is damaged: {error}")]
    return kernel, [passed("machine", subject), *checks]


def warnings_of(region: str, kernel: Kernel, device: Device) -> Iterator[Warned]:
    """Yield what slows a kernel down, or keeps it from being launched."""
    subject, usage = f"{region} {kernel.launch.name}", kernel.usage
    if usage is not None and (usage.stack or usage.spilled):
        yield Warned(subject, f"{usage.stack} bytes of stack per thread{_reason(usage)}")
    if kernel.shared_memory > device.shared_memory_per_block:
        needs, has = kernel.shared_memory, device.shared_memory_per_block
        yield Warned(
            subject, f"needs {needs} bytes of shared memory, `{device.target}` has {has}: it cannot be launched"
        )


def _reason(usage: Usage) -> str:
    """Return why a kernel has a stack, as far as its file tells."""
    if usage.spilled is None:
        return ": spilled registers, or arrays that are indexed at run time"
    return f" for {usage.spilled} spilled registers" if usage.spilled else " for arrays that are indexed at run time"


def _read_cuda(file: _File, aim: Aim) -> tuple[Kernel, list[Check]]:
    launch, found = file.kernel.launch, cuda.entries(file.elf)
    checks = [_architecture(file.subject, cuda.architecture(file.elf), aim.target), _entry(file.subject, launch, found)]
    if launch.entry not in found:
        return file.kernel, checks
    usage = cuda.usage_of(file.data, file.elf, launch.entry)
    if usage is None:
        checks.append(unchecked("registers", file.subject, "no `cuobjdump` here: `pip install triton` brings it"))
    mix = cuda.mix_of_kernel(file.data, launch.entry) if aim.with_instructions else None
    return replace(file.kernel, usage=usage, mix=mix), checks


def _read_amd(file: _File, aim: Aim) -> tuple[Kernel, list[Check]]:
    launch, found = file.kernel.launch, amd.kernels(file.elf)
    arch = amd.architecture(file.elf)
    checks = [_architecture(file.subject, arch, aim.target), _entry(file.subject, launch, found)]
    if launch.entry not in found:
        return file.kernel, checks
    described = found[launch.entry]
    threads, problem = launch.num_warps * launch.warp_size, None
    if described.wavefront_size != launch.warp_size:
        problem = f"its wavefronts have {described.wavefront_size} threads, the launch says {launch.warp_size}"
    elif threads > described.max_threads:
        problem = f"it is launched with {threads} threads, and compiled for {described.max_threads} at most"
    checks.append(judged("launch", file.subject, problem))
    kernel = replace(file.kernel, usage=described.usage)
    if aim.with_instructions and arch == aim.target.arch:
        try:
            kernel = replace(kernel, mix=amd.mix_of_kernel(file.elf, launch.entry))
        except UnknownInstruction as error:
            checks.append(
                unchecked("instructions", file.subject, f"`{launch.file}` has one that is not known: {error}")
            )
    return kernel, checks


def _architecture(subject: str, found: str, target: Target) -> Check:
    right = found == target.arch
    return judged("architecture", subject, None if right else f"it is built for {found}, not for {target.arch}")


def _entry(subject: str, launch: Launch, found: Iterable[str]) -> Check:
    found = sorted(found)
    names = listed([f"`{name}`" for name in found]) if found else "none at all"
    missing = f"`{launch.file}` has no kernel `{launch.entry}`, but {names}"
    return judged("entry point", subject, None if launch.entry in found else missing)
