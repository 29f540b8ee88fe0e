"""Kernels and libraries as files: what is read of them is what the tools that made them say, and damage is told."""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from inspect_samples import TRITON_TARGETS, Compiled, Kernels, Workshop

from maxbuild.inspect import amd, cuda
from maxbuild.inspect.checks import Outcome
from maxbuild.inspect.elf import NotElf, read_elf
from maxbuild.inspect.kernels import Aim, inspect_kernel
from maxbuild.targets.devices import device_of
from maxbuild.targets.parts import triton_folder
from maxbuild.targets.spelling import parse_target

CUDA = [target for target in TRITON_TARGETS if target.startswith("cuda")]
HIP = [target for target in TRITON_TARGETS if target.startswith("hip")]


@pytest.mark.parametrize("target", TRITON_TARGETS)
def test_architecture_and_entry_points_are_those_of_the_compile(target: str, kernels: Kernels) -> None:
    """For each GPU the flags of the file say which, and the kernel is found by the name that it is launched by."""
    reader = cuda if target in CUDA else amd
    elf = read_elf(kernels("add", target).binary)
    assert elf.machine == reader.MACHINE
    assert f"{target.partition(':')[0]}:{reader.architecture(elf)}" == target
    assert set(cuda.entries(elf) if reader is cuda else amd.kernels(elf)) == {"add"}


@pytest.mark.parametrize("target", TRITON_TARGETS)
def test_spills_are_seen_where_registers_ran_out(target: str, kernels: Kernels) -> None:
    """A kernel that was given too few registers has a stack, and a plain one has none."""
    for kind, spills in (("add", False), ("crowded", True)):
        compiled = kernels(kind, target)
        aim = Aim(parse_target(target), device_of(parse_target(target)), with_instructions=False)
        kernel, _ = inspect_kernel("main/x", compiled.launch, compiled.binary, aim)
        assert kernel.usage is not None
        assert bool(kernel.usage.stack) is spills
        assert bool(kernel.usage.spilled) is (spills and target in HIP)


def ptxas(source: str, arch: str, folder: Path) -> tuple[bytes, str]:
    """Return the cubin of some PTX, and what ptxas says it takes."""
    triton = triton_folder()
    assert triton is not None
    (folder / "kernel.ptx").write_text(source)
    command = [
        triton / "backends" / "nvidia" / "bin" / "ptxas",
        "-v",
        f"-arch={arch}",
        "kernel.ptx",
        "-o",
        "kernel.cubin",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return (folder / "kernel.cubin").read_bytes(), done.stderr


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100", "sm_120"])
@pytest.mark.parametrize("memory", [".shared .align 4 .b8 m[512];", ".extern .shared .align 4 .b8 m[];"])
def test_usage_is_what_the_assembler_says(arch: str, memory: str, tmp_path: Path) -> None:
    """Registers and shared memory are ptxas' own figures: what the system keeps for itself is not counted."""
    pytest.importorskip("triton")
    # By ptxas' own release notes the first that know these architectures are 8.0 and 8.7.
    version = "8.7" if arch in {"sm_100", "sm_120"} else "8.0"
    cubin, told = ptxas(
        f""".version {version}
        .target {arch}
        .address_size 64
        {memory}
        .visible .entry k(.param .u64 p) {{
            .reg .b32 %r<3>; .reg .b64 %rd<2>;
            ld.param.u64 %rd1, [p];
            mov.u32 %r1, m; st.shared.u32 [%r1], %r1; bar.sync 0; ld.shared.u32 %r2, [%r1+4];
            st.global.u32 [%rd1], %r2;
            ret;
        }}""",
        arch,
        tmp_path,
    )
    usage = cuda.usage_of(cubin, read_elf(cubin), "k")
    assert usage is not None
    told_shared = re.search(r"(\d+) bytes smem", told)
    assert usage.shared == (int(told_shared[1]) if told_shared else 0) == (0 if "extern" in memory else 512)
    assert f"Used {usage.registers} registers" in told


def test_what_a_library_needs_is_read(workshop: Workshop) -> None:
    """Needed libraries, undefined symbols and versions are those that the linker recorded."""
    elf = read_elf(workshop.wrapper("cuda", [("triton_add_0.cubin", "add")]))
    assert {"libtorch_cpu.so", "libtorch_cuda.so", "libstdc++.so.6"} <= set(elf.needed)
    undefined = {symbol.name for symbol in elf.symbols if symbol.is_undefined}
    assert {"aoti_torch_get_dim", "cuModuleLoad"} <= undefined
    assert "AOTInductorModelRun" in {symbol.name for symbol in elf.functions()}
    assert any(version.startswith("GLIBCXX_") for version in elf.versions["libstdc++.so.6"])


def damaged(data: bytes, count: int) -> Iterator[bytes]:
    """Yield `data` cut at places all over, and with a bit or a few bytes changed: in the headers as often as behind."""
    chance = random.Random(7)
    for index in range(count):
        yield data[: len(data) * index // count]
        changed = bytearray(data)
        place = chance.randrange(64 if index % 2 else len(data))
        changed[place] ^= 1 << chance.randrange(8)
        yield bytes(changed)
        table = int.from_bytes(data[40:48], "little")  # e_shoff: where the headers of the sections are
        place = chance.randrange(table, len(data) - 8) if table < len(data) - 8 else place
        changed[place : place + 8] = chance.choice([b"\xff" * 8, bytes(8), chance.randbytes(8)])
        yield bytes(changed)


@pytest.mark.parametrize("target", ["cuda:sm_90", "cuda:sm_100", "hip:gfx942"])
def test_damaged_kernels_are_told_in_words(target: str, kernels: Kernels) -> None:
    """Whatever is cut or changed in a kernel's file, checks come of it, and no other error."""
    compiled = kernels("crowded", target)
    aim = Aim(parse_target(target), device_of(parse_target(target)), with_instructions=target in HIP)
    outcomes = set()
    for data in damaged(compiled.binary, 60):
        _, checks = inspect_kernel("main/x", compiled.launch, data, aim)
        outcomes |= {check.outcome for check in checks}
        assert all(check.detail for check in checks if check.outcome is not Outcome.PASSED)
    assert outcomes >= {Outcome.PASSED, Outcome.FAILED}


def test_instructions_that_are_not_known_are_told(kernels: Kernels) -> None:
    """Code with an instruction of no known format has no counts, and is not taken for checked."""
    compiled = kernels("add", "hip:gfx942")
    elf = read_elf(compiled.binary)
    code = elf.code_of(next(symbol for symbol in elf.functions() if symbol.name == "add"))
    strange = compiled.binary.replace(code, bytes.fromhex("000000f4") + code[4:])
    target = parse_target("hip:gfx942")
    kernel, checks = inspect_kernel("main/x", compiled.launch, strange, Aim(target, device_of(target), True))
    assert kernel.mix is None
    assert kernel.usage is not None
    assert [check.name for check in checks if check.outcome is Outcome.UNCHECKED] == ["instructions"]
    assert not any(check.outcome is Outcome.FAILED for check in checks)


def test_damaged_libraries_are_told_in_words(workshop: Workshop) -> None:
    """Whatever is cut or changed in a library, it is read or refused with the one error."""
    refused = 0
    for data in damaged(workshop.wrapper("cuda", [("triton_add_0.cubin", "add")]), 150):
        try:
            read_elf(data)
        except NotElf:
            refused += 1
    assert refused > 100


def test_foreign_files_are_no_elf_files() -> None:
    """Text, nothing at all, and an archive are refused for what they begin with."""
    for data in (b"", b"MZ" + bytes(100), b"\x7fELF", b"PK\x03\x04" + bytes(100)):
        with pytest.raises(NotElf, match="does not begin"):
            read_elf(data)


def test_code_is_never_read_beyond_its_section(kernels: Kernels) -> None:
    """A symbol that claims more bytes than its section has is an error, not a shorter kernel."""
    compiled: Compiled = kernels("add", "hip:gfx942")
    elf = read_elf(compiled.binary)
    symbol = next(symbol for symbol in elf.functions() if symbol.name == "add")
    size = symbol.size.to_bytes(8, "little")
    assert compiled.binary.count(size) >= 1
    longer = compiled.binary.replace(size, (symbol.size + (1 << 20)).to_bytes(8, "little"))
    with pytest.raises(NotElf, match="leads out of its section"):
        amd.mix_of_kernel(read_elf(longer), "add")


def test_sections_are_never_read_beyond_the_file(kernels: Kernels) -> None:
    """A section that claims more bytes than the file has is an error, not a shorter section."""
    data = bytearray(kernels("add", "hip:gfx942").binary)
    table, names = int.from_bytes(data[40:48], "little"), [section.name for section in read_elf(bytes(data)).sections]
    size = table + 64 * names.index(".text") + 32  # Elf64_Shdr: sh_size
    data[size : size + 8] = len(data).to_bytes(8, "little")
    with pytest.raises(NotElf, match=r"section `.text` leads out of the file"):
        read_elf(bytes(data))
