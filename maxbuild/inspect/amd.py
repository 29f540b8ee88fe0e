"""AMD code objects (hsaco): for which GPU, which kernels, what each takes, what instructions it is made of.

Source: LLVM, "User Guide for AMDGPU Backend": "Header" (e_flags), "Code Object V5 Metadata".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from maxbuild.inspect import gcn
from maxbuild.inspect.elf import Elf, NotElf
from maxbuild.inspect.kernel import Usage
from maxbuild.inspect.mix import Mix, mix_of

MACHINE = "AMDGPU"

_METADATA_OWNER, _METADATA_KIND = "AMDGPU", 32
"""NT_AMDGPU_METADATA: a document in MessagePack."""

# "AMDGPU EF_AMDGPU_MACH Values", of the targets that packages are built for.
_MACHINES: Mapping[int, str] = {0x3F: "gfx90a", 0x41: "gfx1100", 0x4C: "gfx942", 0x4F: "gfx950"}


@dataclass(frozen=True, slots=True)
class CodeObjectKernel:
    """What the metadata of a code object says of one kernel."""

    usage: Usage
    wavefront_size: int
    max_threads: int
    """The largest block that it may be launched with."""


def architecture(elf: Elf) -> str:
    """Return for which GPU a code object is, as in `gfx942`, or its number where it is none that we build for."""
    machine = elf.flags & 0xFF
    return _MACHINES.get(machine, f"{machine:#x}")


def kernels(elf: Elf) -> Mapping[str, CodeObjectKernel]:
    """Return the kernels of a code object by name; NotElf where its metadata cannot be read.

    A kernel counts if it is what a launch needs: a function, and a descriptor of the name `….kd`.
    """
    symbols = {symbol.name for symbol in elf.symbols if symbol.section is not None}
    found = (_kernel(entry) for entry in _metadata(elf))
    return {name: kernel for name, kernel in found if {name, f"{name}.kd"} <= symbols}


def mix_of_kernel(elf: Elf, entry: str) -> Mix:
    """Return the instructions of the kernel `entry`; NotElf or UnknownInstruction where its code cannot be read."""
    symbol = next((symbol for symbol in elf.functions() if symbol.name == entry), None)
    if symbol is None:
        raise NotElf(f"it has no function `{entry}`")
    return mix_of(gcn.sorts(elf.code_of(symbol), architecture(elf)))


def _metadata(elf: Elf) -> list[Any]:
    # Imported here: only those who look into packages need it.
    import msgpack  # noqa: PLC0415

    notes = [n for n in elf.notes if (n.owner, n.kind) == (_METADATA_OWNER, _METADATA_KIND)]
    if not notes:
        raise NotElf("it has no metadata of AMD's")
    try:
        document = msgpack.unpackb(notes[0].content)
        entries = document["amdhsa.kernels"]
    except Exception as error:  # what a damaged document raises is of every class
        raise NotElf(f"its metadata is damaged: {type(error).__name__}: {error}") from error
    if not isinstance(entries, list):
        raise NotElf("its metadata lists no kernels")
    return entries


def _kernel(entry: Any) -> tuple[str, CodeObjectKernel]:
    try:
        return str(entry[".name"]), CodeObjectKernel(
            usage=Usage(
                registers=int(entry[".vgpr_count"]),
                accumulators=int(entry.get(".agpr_count", 0)),
                scalars=int(entry[".sgpr_count"]),
                stack=int(entry[".private_segment_fixed_size"]),
                spilled=int(entry.get(".vgpr_spill_count", 0)),
                shared=int(entry[".group_segment_fixed_size"]),
            ),
            wavefront_size=int(entry[".wavefront_size"]),
            max_threads=int(entry[".max_flat_workgroup_size"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NotElf(f"its metadata is damaged: {type(error).__name__}: {error}") from error
