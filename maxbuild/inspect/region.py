"""One region of a package as facts, with the checks that its wrapper, its kernels and the target fit together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from maxbuild.inspect.archive import Archive, BadArchive, read_archive
from maxbuild.inspect.checks import Check, Outcome, failed, judged, listed, passed
from maxbuild.inspect.elf import NotElf, read_elf
from maxbuild.inspect.kernel import Kernel
from maxbuild.inspect.kernels import Aim, Warned, inspect_kernel, warnings_of
from maxbuild.inspect.libraries import check_symbols
from maxbuild.inspect.wrapper import Wrapper, check_level, check_machine, check_names, read_wrapper
from maxbuild.inspect.x86 import disassemble
from maxbuild.targets.spelling import Target


@dataclass(frozen=True, slots=True)
class Region:
    """One region; `names` are those that roles have for it, `wrapper` is None where it could not be read."""

    names: tuple[str, ...]
    path: str
    size: int
    wrapper: Wrapper | None
    kernels: tuple[Kernel, ...]
    ptx_bytes: int
    checks: tuple[Check, ...]
    warnings: tuple[Warned, ...]

    @property
    def kernel_bytes(self) -> int:
        """Return the size of all kernels."""
        return sum(kernel.size for kernel in self.kernels)


def inspect_region(names: Sequence[str], package: Path, path: str, aim: Aim) -> Region:
    """Return what the region at `path` in `package` holds, whatever is wrong with it."""
    subject, size = names[0], (package / path).stat().st_size
    try:
        archive = read_archive(package / path)
    except BadArchive as error:
        return Region(tuple(names), path, size, None, (), 0, (failed("archive", subject, f"`{path}`: {error}"),), ())
    wrapper, checks = _wrapper(subject, archive, aim)
    kernels: list[Kernel] = []
    warnings: list[Warned] = []
    if aim.device is not None:
        checks.append(_check_description(subject, archive, aim.target))
        for launch in archive.launches or ():
            if launch.file in archive.kernels:
                kernel, found = inspect_kernel(subject, launch, archive.kernels[launch.file], aim)
                kernels.append(kernel)
                checks += found
                warnings += warnings_of(subject, kernel, aim.device)
    checks.insert(0, passed("archive", subject))
    return Region(tuple(names), path, size, wrapper, tuple(kernels), archive.ptx_bytes, tuple(checks), tuple(warnings))


def _wrapper(subject: str, archive: Archive, aim: Aim) -> tuple[Wrapper | None, list[Check]]:
    try:
        elf = read_elf(archive.wrapper)
    except NotElf as error:
        return None, [failed("machine", subject, f"the library is no ELF file: {error}")]
    machine = check_machine(subject, elf)
    if machine.outcome is Outcome.FAILED:
        return None, [machine]
    listing = disassemble(archive.wrapper)
    wrapper, example = read_wrapper(elf, len(archive.wrapper), listing, archive.metadata)
    checks = [machine, check_level(subject, wrapper, aim.target.cpu_level, example), check_symbols(subject, elf)]
    if aim.device is not None:
        entries = {launch.entry for launch in archive.launches or ()}
        checks.append(check_names(subject, archive.wrapper, elf, listing, archive.kernels, entries))
    return wrapper, checks


def _check_description(subject: str, archive: Archive, target: Target) -> Check:
    """Check that the launch metadata and the archive speak of the same kernels, for the package's target."""
    name = "launch metadata"
    if archive.launches is None:
        return failed(name, subject, "the region has no maxbuild.json, which says how its kernels are launched")
    described = {launch.file for launch in archive.launches}
    problem = None
    if archive.target != target.spelling:
        problem = f"the region is built for `{archive.target}`, the package for `{target.spelling}`"
    elif missing := sorted(described - archive.kernels.keys()):
        problem = f"it describes kernels that are not in the region: {listed(missing)}"
    elif strange := sorted(archive.kernels.keys() - described):
        problem = f"it does not describe {listed(strange)}"
    return judged(name, subject, problem)
