"""AMD's machine code, taken apart into instructions and sorted, without a disassembler.

Distributions ship an `llvm-objdump` that is older than the GPUs (Debian 12's knows neither gfx942 nor gfx950), and no
wheel brings one. The sort and the length of an instruction are all that is wanted here, and a few fields of its first
word tell both. Sources: AMD, "Instruction Set Architecture" guides of CDNA 2, CDNA 3, CDNA 4 and RDNA 3, chapter
"Microcode Formats"; numbers of operations also from LLVM, `llvm/lib/Target/AMDGPU/*Instructions.td`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from maxbuild.inspect.mix import Sort


class UnknownInstruction(ValueError):
    """Bytes that are no instruction of the format's."""


class _Generation(NamedTuple):
    """Where the generations differ: numbers of operations and of operands, and what the first six bits mean."""

    literals: frozenset[int]
    """Operands that bring a further word: a constant, or how lanes are swapped."""
    vop2_with_constant: frozenset[int]
    sopk_with_constant: int
    barriers: frozenset[int]
    fma_vop2: frozenset[int]
    fma_vop3: frozenset[int]
    fma_vop3p: frozenset[int]
    segment_shift: int
    """Where a FLAT instruction says which memory it means."""
    wide: dict[int, Sort]
    """Formats of two words that need no further look, by their first six bits."""


_CDNA = _Generation(
    literals=frozenset({249, 250, 255}),  # SDWA, DPP, constant
    vop2_with_constant=frozenset({23, 24, 36, 37}),  # v_madmk/v_fmamk_f32, …ak_f32, …mk_f16, …ak_f16
    sopk_with_constant=20,  # s_setreg_imm32_b32
    barriers=frozenset({10}),
    fma_vop2=frozenset({4, 23, 24, 59, 60}),  # v_fmac_f64, v_fmamk_f32, v_fmaak_f32, v_fmac_f32, v_pk_fmac_f16
    fma_vop3=frozenset({0x104, 0x13B, 0x1CB, 0x1CC, 0x206}),  # v_fmac_f64 and _f32, v_fma_f32, _f64 and _f16
    fma_vop3p=frozenset({0x0E, 0x20, 0x21, 0x22, 0x30}),  # v_pk_fma_f16, v_fma_mix…, v_pk_fma_f32
    segment_shift=14,
    wide={0x30: Sort.OTHER, 0x36: Sort.SHARED, 0x38: Sort.GLOBAL, 0x3A: Sort.GLOBAL, 0x3C: Sort.GLOBAL},
)
_RDNA3 = _Generation(
    literals=frozenset({233, 234, 250, 255}),  # DPP8, DPP8 with inactive lanes, DPP16, constant
    vop2_with_constant=frozenset({44, 45, 55, 56}),
    sopk_with_constant=19,
    barriers=frozenset({61}),
    fma_vop2=frozenset({43, 44, 45, 54, 55, 56, 60}),
    fma_vop3=frozenset({0x12B, 0x136, 0x213, 0x214, 0x248}),
    fma_vop3p=frozenset({0x0E, 0x20, 0x21, 0x22}),
    segment_shift=16,
    wide={0x3D: Sort.OTHER, 0x36: Sort.SHARED, 0x38: Sort.GLOBAL, 0x3A: Sort.GLOBAL, 0x3E: Sort.OTHER},
)
_GENERATIONS = {"gfx90a": _CDNA, "gfx942": _CDNA, "gfx950": _CDNA, "gfx1100": _RDNA3}

_SEGMENTS = {0: Sort.GLOBAL, 1: Sort.LOCAL, 2: Sort.GLOBAL}

# v_accvgpr_read and _write: moves between the two halves of the register file.
_ACCUMULATOR_MOVES = frozenset({0x58, 0x59})
# v_mfma_ld_scale_b32, the first half of a matrix instruction of CDNA 4 that takes scales.
_SCALE = 0x2C
_VOPD_FMA = frozenset({0, 1, 2})
_VOPD_WITH_CONSTANT = frozenset({1, 2})


class _Words:
    """The words of some code from one place on; beyond its end there is none."""

    def __init__(self, code: bytes, offset: int) -> None:
        self._code, self._offset = code, offset

    def __getitem__(self, index: int) -> int:
        place = self._offset + 4 * index
        if place + 4 > len(self._code):
            raise UnknownInstruction("the code ends within an instruction")
        return int(struct.unpack_from("<I", self._code, place)[0])


def sorts(code: bytes, arch: str) -> Iterator[Sort]:
    """Yield the sort of each instruction of `code`, `s_nop` and other padding left out.

    arch: as in `gfx942`. Raise UnknownInstruction where the bytes are no code of that GPU, KeyError for another arch.
    """
    generation = _GENERATIONS[arch]
    decode = _cdna if generation is _CDNA else _rdna3
    offset = 0
    while offset < len(code):
        words = _Words(code, offset)
        length, sort = _common(words, generation) or decode(words, generation)
        if not _is_padding(words[0]):
            yield sort
        offset += 4 * length


def _is_padding(word: int) -> bool:
    """Tell whether an instruction only fills space: `s_nop`, and `s_code_end` after a kernel."""
    return word >> 16 in {0xBF80, 0xBF9F}


def _common(words: _Words, generation: _Generation) -> tuple[int, Sort] | None:
    """Return length in words and sort of an instruction in a format that all generations share; None for others."""
    word = words[0]
    top = word >> 26
    if word >> 31 == 0:
        operation, source = word >> 25, word & 0x1FF
        vop2 = operation < 0x3E
        longer = source in generation.literals or (vop2 and operation in generation.vop2_with_constant)
        return 1 + longer, Sort.FMA if vop2 and operation in generation.fma_vop2 else Sort.OTHER
    if word >> 30 == 0b10:
        return _scalar(word, generation)
    if top == 0x37:
        segment = _SEGMENTS.get(word >> generation.segment_shift & 3)
        if segment is None:
            raise UnknownInstruction(f"{word:#010x}: no such memory")
        return 2, segment
    if top in generation.wide:
        return 2, generation.wide[top]
    return None


def _scalar(word: int, generation: _Generation) -> tuple[int, Sort]:
    first, second = (word & 0xFF) == 255, (word >> 8 & 0xFF) == 255
    match word >> 23:
        case 0x17F:  # SOPP
            return 1, Sort.BARRIER if word >> 16 & 0x7F in generation.barriers else Sort.OTHER
        case 0x17D:  # SOP1
            return 1 + first, Sort.OTHER
        case 0x17E:  # SOPC
            return 1 + (first or second), Sort.OTHER
        case _ if word >> 28 == 0xB:  # SOPK
            return 1 + ((word >> 23 & 0x1F) == generation.sopk_with_constant), Sort.OTHER
        case _:  # SOP2
            return 1 + (first or second), Sort.OTHER


def _cdna(words: _Words, generation: _Generation) -> tuple[int, Sort]:
    word = words[0]
    if word >> 23 == 0x1A7:  # VOP3P, and within it the matrix instructions
        operation = word >> 16 & 0x7F
        if operation == _SCALE:
            return 4, Sort.MATRIX
        if (operation in {0x2D, 0x2E} or operation >= 0x35) and operation not in _ACCUMULATOR_MOVES:
            return 2, Sort.MATRIX
        return 2, Sort.FMA if operation in generation.fma_vop3p else Sort.OTHER
    if word >> 26 == 0x34:  # VOP3
        return 2, Sort.FMA if word >> 16 & 0x3FF in generation.fma_vop3 else Sort.OTHER
    raise UnknownInstruction(f"{word:#010x}")


def _rdna3(words: _Words, generation: _Generation) -> tuple[int, Sort]:
    word = words[0]
    if word >> 24 == 0xCC:  # VOP3P; the matrix instructions are 0x40 to 0x45
        operation = word >> 16 & 0x7F
        sort = Sort.MATRIX if operation >= 0x40 else Sort.FMA if operation in generation.fma_vop3p else Sort.OTHER
        return 2 + _is_longer(words[1], generation), sort
    if word >> 26 == 0x35:  # VOP3
        sort = Sort.FMA if word >> 16 & 0x3FF in generation.fma_vop3 else Sort.OTHER
        return 2 + _is_longer(words[1], generation), sort
    if word >> 26 == 0x32:  # VOPD: two operations at once
        operations = word >> 22 & 0xF, word >> 17 & 0x1F
        longer = 255 in {word & 0x1FF, words[1] & 0x1FF} or not _VOPD_WITH_CONSTANT.isdisjoint(operations)
        return 2 + longer, Sort.OTHER if _VOPD_FMA.isdisjoint(operations) else Sort.FMA
    if word >> 26 == 0x3C:  # MIMG, with a word of addresses where they are not in a row
        return 2 + (word & 1), Sort.GLOBAL
    raise UnknownInstruction(f"{word:#010x}")


def _is_longer(word: int, generation: _Generation) -> bool:
    """Tell whether an instruction of RDNA's wide formats has a third word; `word` is its second."""
    first, second, third = word & 0x1FF, word >> 9 & 0x1FF, word >> 18 & 0x1FF
    return first in generation.literals or 255 in {second, third}
