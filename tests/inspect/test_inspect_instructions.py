"""Instructions are sorted right: AMD's against the assembler's text, x86-64's against the assembler's levels."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import pytest
from inspect_samples import TRITON_TARGETS, Kernels

from maxbuild.inspect import cuda, gcn
from maxbuild.inspect.elf import read_elf
from maxbuild.inspect.mix import Sort, mix_of
from maxbuild.inspect.x86 import LEVELS, disassemble, exceeds, level_used

HIP = [target for target in TRITON_TARGETS if target.startswith("hip")]
CUDA = [target for target in TRITON_TARGETS if target.startswith("cuda")]

_PREFIXES = {
    ("v_mfma", "v_smfmac", "v_wmma"): Sort.MATRIX,
    ("global_", "flat_", "buffer_"): Sort.GLOBAL,
    ("ds_",): Sort.SHARED,
    ("scratch_",): Sort.LOCAL,
}


def sorts_of_assembly(text: str) -> Iterator[tuple[Sort, str]]:
    """Yield the sort of each instruction by its name in the assembler's text, padding left out, and the line."""
    for line in text.splitlines():
        found = re.match(r"\t([a-z]\w+)", line)
        if found and found[1] not in {"s_nop", "s_code_end"}:
            name = found[1]
            sort = next((sort for prefixes, sort in _PREFIXES.items() if name.startswith(prefixes)), Sort.OTHER)
            # Two in one: `v_dual_mul_f32 … :: v_dual_fmac_f32 …`. `v_div_fmas` is a step of a division.
            if re.search(r"fma(?!s)", line.partition(";")[0]) and sort is Sort.OTHER:
                sort = Sort.FMA
            yield (Sort.BARRIER if name == "s_barrier" else sort), line.strip()


@pytest.mark.parametrize("target", HIP)
@pytest.mark.parametrize("kind", ["matmul", "softmax", "crowded"])
def test_amd_code_falls_apart_into_the_assemblers_instructions(target: str, kind: str, kernels: Kernels) -> None:
    """Each instruction has the length and the sort that it has in the text it was assembled from, in that order."""
    compiled = kernels(kind, target)
    elf = read_elf(compiled.binary)
    symbol = next(symbol for symbol in elf.functions() if symbol.name == compiled.launch.entry)
    found = gcn.sorts(elf.code_of(symbol), target.partition(":")[2])
    for sort, told in zip_longest(found, sorts_of_assembly(compiled.assembly)):
        assert told is not None
        assert sort is told[0], told[1]


@pytest.mark.parametrize(
    ("arch", "code"),
    [
        ("gfx942", bytes.fromhex("000000f4")),  # RDNA's loads of scalars: no format of CDNA's
        ("gfx1100", bytes.fromhex("000000c0")),  # and the other way round
        ("gfx942", bytes.fromhex("ff00")),
        ("gfx942", bytes.fromhex("00c030dc")),  # FLAT, cut after its first word, of no segment
        ("gfx1100", bytes.fromhex("000056d6")),  # VOP3, cut likewise
    ],
)
def test_what_is_no_amd_code_is_refused(arch: str, code: bytes) -> None:
    """Bytes that are no instruction end in the one error, and never in a guess."""
    with pytest.raises(gcn.UnknownInstruction):
        list(gcn.sorts(code, arch))


@pytest.mark.parametrize("target", CUDA)
def test_cuda_code_is_counted_by_sort(target: str, kernels: Kernels) -> None:
    """Products of matrices use each GPU's matrix units, spills are local memory, and a plain kernel has neither."""
    mixes = {}
    for kind in ("add", "matmul", "crowded"):
        compiled = kernels(kind, target)
        mixes[kind] = cuda.mix_of_kernel(compiled.binary, compiled.launch.entry)
    add, matmul, crowded = mixes["add"], mixes["matmul"], mixes["crowded"]
    assert add is not None
    assert matmul is not None
    assert crowded is not None
    assert (add.matrix, add.fma, add.shared, add.local, add.barrier) == (0, 0, 0, 0, 0)
    assert add.global_ == 16  # 1024 elements, 128 threads: 8 loads, 8 stores
    assert matmul.matrix > 0
    assert matmul.shared > 0
    assert matmul.barrier > 0
    assert crowded.local > 100
    assert crowded.matrix == 0


def test_a_mix_adds_up() -> None:
    """Every sort is counted under its own name, and the total is all of them."""
    mix = mix_of([sort for index, sort in enumerate(Sort) for _ in range(10**index)])
    assert (mix.matrix, mix.fma, mix.global_, mix.shared, mix.local, mix.barrier, mix.other) == (
        *(10**index for index in range(7)),
    )
    assert mix.total == 1_111_111


INSTRUCTIONS = {
    "x86-64": "verr %ax; mulps %xmm1,%xmm0;addsd %xmm1,%xmm0; tzcnt %eax,%ebx; lock cmpxchg %rax,(%rdi); rep stosb",
    "x86-64-v2": "pshufb %xmm1,%xmm0; popcnt %rax,%rbx; roundss $1,%xmm0,%xmm1; lock cmpxchg16b (%rdi);"
    "pmulld %xmm0,%xmm1; haddps %xmm0,%xmm1; pinsrd $1,%eax,%xmm0; blendvps %xmm0,%xmm1,%xmm2;"
    "crc32 %eax,%ebx; movddup %xmm0,%xmm1",
    "x86-64-v3": "vmulps %ymm1,%ymm0,%ymm2; vaddss %xmm0,%xmm1,%xmm2; vfmadd231ps %ymm0,%ymm1,%ymm2;"
    "andn %eax,%ebx,%ecx; vcvtph2ps %xmm0,%ymm1; vcvtps2ph $0,%ymm0,%xmm1; shlx %eax,%ebx,%ecx;"
    "movbe (%rdi),%eax; lzcnt %eax,%ebx;"
    "vzeroupper; vmovshdup %ymm0,%ymm1; vpermd %ymm0,%ymm1,%ymm2; vgatherdps %ymm0,(%rdi,%ymm1),%ymm2",
    "x86-64-v4": "vmulps %zmm1,%zmm0,%zmm2; vmovaps %ymm16,%ymm0; kmovw %k1,%eax; vaddps %ymm0,%ymm1,%ymm2{%k1};"
    "vpermi2w %zmm0,%zmm1,%zmm2; vpmullq %zmm0,%zmm1,%zmm2; vpermw %zmm0,%zmm1,%zmm2; vcvtdq2ps %zmm0,%zmm1;"
    "vrndscaless $11,%xmm0,%xmm0,%xmm0; vscalefps %zmm0,%zmm1,%zmm2; vcvtps2ph $0,%zmm0,%ymm1",
    "beyond x86-64-v4": "vpdpbusd %zmm0,%zmm1,%zmm2; vdpbf16ps %zmm0,%zmm1,%zmm2; vaddph %zmm0,%zmm1,%zmm2;"
    "vcvtneps2bf16 %zmm0,%ymm1; aesenc %xmm0,%xmm1; vpopcntd %zmm0,%zmm1; vpermb %zmm0,%zmm1,%zmm2;"
    "vpmadd52luq %zmm0,%zmm1,%zmm2; vfmadd132sh %xmm0,%xmm1,%xmm2; vcvtsh2ss %xmm0,%xmm1,%xmm2;"
    "tileloadd (%rdi,%rax),%tmm0; vpexpandb %zmm0,%zmm1; vcvtph2dq %ymm0,%zmm1; vcvtdq2ph %zmm0,%ymm1",
}


@pytest.mark.parametrize(
    ("level", "line"), [(level, line.strip()) for level, lines in INSTRUCTIONS.items() for line in lines.split(";")]
)
def test_levels_of_instructions(level: str, line: str, tmp_path: Path) -> None:
    """An instruction, assembled and taken apart again, needs the level whose extension brought it."""
    if shutil.which("as") is None or shutil.which("objdump") is None:
        pytest.skip("no binutils here")
    (tmp_path / "one.s").write_text(f"{line}\n")
    subprocess.run(["as", tmp_path / "one.s", "-o", tmp_path / "one.o"], check=True)
    listing = disassemble((tmp_path / "one.o").read_bytes())
    assert listing is not None
    used = level_used(listing)
    assert used.level == level
    assert exceeds(level, "x86-64-v2") is (level not in {"x86-64", "x86-64-v2"})


@pytest.mark.parametrize("level", LEVELS)
def test_compilers_stay_within_their_level(level: str, tmp_path: Path) -> None:
    """A loop compiled for a level uses that level and none above."""
    if shutil.which("g++") is None or shutil.which("objdump") is None:
        pytest.skip("no g++ or objdump here")
    source = tmp_path / "loop.cpp"
    source.write_text(
        "#include <cmath>\n"
        'extern "C" int run(float* x, int* y) {\n'
        "    int s = 0;\n"
        "    for (int i = 0; i < 4096; i++) x[i] = std::floor(x[i] * x[i] + 1), s += __builtin_popcount(y[i]);\n"
        "    return s;\n}\n"
    )
    flags = ["-O3", "-ffast-math", "-fPIC", "-shared", f"-march={level}", "-mprefer-vector-width=512"]
    subprocess.run(["g++", *flags, source, "-o", tmp_path / "loop.so"], check=True)
    listing = disassemble((tmp_path / "loop.so").read_bytes())
    assert listing is not None
    used = level_used(listing)
    assert used.level == level
    assert bool(used.example) is (level != "x86-64")
