"""CUDA binaries (cubins): for which GPU, which kernels, what each takes, what instructions it is made of."""

from __future__ import annotations

import re
from collections.abc import Mapping

from maxbuild.inspect.elf import Elf
from maxbuild.inspect.kernel import Usage
from maxbuild.inspect.mix import Mix, Sort, mix_of
from maxbuild.inspect.tools import ToolFailed, cuobjdump, run_on

MACHINE = "CUDA"

# Where `e_flags` keeps the number of the architecture depends on the version of the ABI: LLVM,
# llvm/include/llvm/BinaryFormat/ELF.h, EF_CUDA_SM, EF_CUDA_SM_MASK and _OFFSET, ELFABIVERSION_CUDA_V1 and _V2.
_FIRST_VERSION_WITH_SHIFT = 8

# "CUDA Binary Utilities", cuobjdump, "-res-usage": the lines of one kernel.
_FUNCTION = re.compile(r"^ Function (\S+):\n\s+(.*)$", re.MULTILINE)
_FIGURES = ("REG", "STACK", "SHARED", "LOCAL")
_FIGURE = re.compile(rf"\b({'|'.join(_FIGURES)}):(\d+)")

_RESERVED = 1024
"""Bytes of shared memory that the system keeps per block from compute capability 9.0 on ("CUDA C++ Programming Guide",
"Compute Capabilities"). cuobjdump counts them for kernels that use shared memory; the limit per block does not."""
_FIRST_WITH_RESERVED = 90

_CODE = re.compile(r"^\t\tFunction : (\S+)$", re.MULTILINE)
_INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_]*)(.*)", re.MULTILINE)
_CONSTANT = re.compile(r"[.\w]* \w+, -RZ, RZ,")
"""Operands of an HFMA2 that multiplies nothing: so ptxas loads constants."""

# "CUDA Binary Utilities", "Instruction Set Reference", by its tables for Ampere, Ada, Hopper and Blackwell.
_MATRIX = re.compile(r"(?:[BDHIOQ]G?MMA|UTC[A-Z]*MMA)$")
_SORTS: Mapping[Sort, frozenset[str]] = {
    Sort.FMA: frozenset({"FFMA", "FFMA2", "FFMA32I", "HFMA2", "HFMA2_32I", "DFMA"}),
    Sort.GLOBAL: frozenset(
        {"LDG", "STG", "LDGSTS", "LD", "ST", "ATOM", "ATOMG", "RED", "REDG", "UBLKCP", "UBLKRED", "UTMALDG", "UTMASTG"}
        | {"UTMAREDG", "LDGMC", "REDAS"}
    ),
    Sort.SHARED: frozenset({"LDS", "STS", "LDSM", "STSM", "ATOMS", "UTCCP"}),
    Sort.LOCAL: frozenset({"LDL", "STL"}),
    Sort.BARRIER: frozenset({"BAR", "UCGABAR_ARV", "UCGABAR_WAIT", "SYNCS"}),
}
_SORT_OF = {name: sort for sort, names in _SORTS.items() for name in names}


def architecture(elf: Elf) -> str:
    """Return for which architecture a cubin is, as in `sm_90`."""
    shift = 8 if elf.abi_version >= _FIRST_VERSION_WITH_SHIFT else 0
    return f"sm_{elf.flags >> shift & 0xFF}"


def entries(elf: Elf) -> frozenset[str]:
    """Return the kernels by name: functions that have constants of their own, in which their arguments come."""
    with_arguments = {section.name for section in elf.sections}
    return frozenset(s.name for s in elf.functions() if f".nv.constant0.{s.name}" in with_arguments)


def usage_of(data: bytes, elf: Elf, entry: str) -> Usage | None:
    """Return what the kernel `entry` takes; None without `cuobjdump`. Raise ToolFailed where that cannot read it."""
    tool = cuobjdump()
    if tool is None:
        return None
    figures = dict(_FIGURE.findall(dict(_FUNCTION.findall(run_on(data, tool, "-res-usage"))).get(entry, "")))
    if len(figures) < len(_FIGURES):
        raise ToolFailed(f"{tool.name} tells nothing of `{entry}`")
    shared = int(figures["SHARED"])
    if int(architecture(elf).removeprefix("sm_")) >= _FIRST_WITH_RESERVED:
        shared = max(0, shared - _RESERVED)
    return Usage(
        registers=int(figures["REG"]),
        accumulators=None,
        scalars=None,
        stack=int(figures["STACK"]) + int(figures["LOCAL"]),
        spilled=None,
        shared=shared,
    )


def mix_of_kernel(data: bytes, entry: str) -> Mix | None:
    """Return the instructions of the kernel `entry`; None without `cuobjdump`. ToolFailed where that cannot read it."""
    tool = cuobjdump()
    if tool is None:
        return None
    pieces = _CODE.split(run_on(data, tool, "-sass"))
    listings = dict(zip(pieces[1::2], pieces[2::2], strict=True))
    instructions = _INSTRUCTION.findall(listings.get(entry, ""))
    return mix_of(_sort(name, operands) for name, operands in instructions if name != "NOP")


def _sort(name: str, operands: str) -> Sort:
    if _MATRIX.match(name):
        return Sort.MATRIX
    if name == "HFMA2" and _CONSTANT.match(operands):
        return Sort.OTHER
    return _SORT_OF.get(name, Sort.OTHER)
