"""Which x86-64 level a library's code needs: that of its highest instruction.

Sources: the x86-64 psABI, "Micro-Architecture Levels"; Intel, "Intel 64 and IA-32 Architectures Software Developer's
Manual", volume 2, for the extension that an instruction is of.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from maxbuild.inspect.tools import ToolFailed, objdump, run_on

LEVELS = ("x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4")
BEYOND = "beyond x86-64-v4"
_ORDER = (*LEVELS, BEYOND)

_INSTRUCTION = re.compile(
    r"^\s+[0-9a-f]+:\t((?:[0-9a-f]{2} )+)\s*"
    r"(?:(?:rep\w*|lock|bnd|notrack|data16|addr32|xacquire|xrelease|[c-gs]s|rex\S*|\{\w+\}) +)*"
    r"([a-z]\w*)[ \t]*([^<#\n]*)",
    re.MULTILINE,
)

_BEYOND = re.compile(
    r"v?aes|sha(?:1|256|512)|v?gf2p8|v?pclmul|vpdp|vdpbf16|vcvtn?e?2?ps2?bf16|vpmadd52|vpermi2b|vpermt2b|vpermb$"
    r"|vpmultishift|vpcompress[bw]|vpexpand[bw]|vpsh[lr]d|vpopcnt|vpshufbitqmb|vp2intersect|tile|tdp|[ls]tui|ldtilecfg"
    r"|v(?:add|sub|mul|div|sqrt|fn?m(?:add|sub)\d{3}|max|min|cmp|rcp|rsqrt|scalef|getexp|getmant|reduce|rndscale)[ps]h$"
    r"|vcvt\w*(?:[su]?[dw]|uw|q|dq|d)2[ps]h"
    r"|vcvtt?[ps]h2(?:u?[wdq]|usi|si|[ps]d|[ps]sx)"
    r"|vcvtss2sh|vcvtsh2ss|vcvtps2phx|vf?c?m(?:ul|add)c[ps]h|vmovsh$|vmovw$|adcx|adox|rdrand|rdseed"
)
# How instructions begin, in 64-bit mode: 62 is EVEX, that is AVX-512's even where it looks like AVX (`vrndscaless` on
# %xmm0), c4 and c5 are VEX, that is AVX's, FMA's, F16C's and most of BMI's. Prefixes of other kinds may come first.
_EVEX, _VEX = frozenset({"62"}), frozenset({"c4", "c5"})
_PREFIXES = frozenset({"26", "2e", "36", "3e", "64", "65", "67"})
_V3 = frozenset({"lzcnt", "movbe", "xgetbv"})
# Not `tzcnt`: compilers write it for every level, since older CPUs take it as `bsf`, which serves there as well.
_V2 = re.compile(
    r"addsubp|haddp|hsubp|lddqu|movddup|movs[hl]dup|fisttp"
    r"|pabs[bwd]$|palignr|ph(?:add|sub)|pmaddubsw|pmulhrsw|pshufb$|psign"
    r"|p?blend|dpp[sd]$|extractps|insertps|movntdqa|mpsadbw|packusdw|pcmpeqq|p(?:extr|insr)[bdq]$|phminposuw"
    r"|pm(?:ax|in)(?:s[bd]|u[wd])$|pmov[sz]x|pmuldq|pmulld|ptest|round[sp]"
    r"|pcmp[ei]str|pcmpgtq|crc32|popcnt|cmpxchg16b|[ls]ahf$"
)


@dataclass(frozen=True, slots=True)
class LevelUsed:
    """The level that some code needs, and an instruction of it that does, as in `vfmadd231ps %ymm0,%ymm1,%ymm2`."""

    level: str
    example: str


def exceeds(level: str, allowed: str) -> bool:
    """Tell whether `level` is above `allowed`."""
    return _ORDER.index(level) > _ORDER.index(allowed)


def disassemble(data: bytes) -> str | None:
    """Return objdump's listing of the library in `data`; None without `objdump`, and where it cannot read the file."""
    tool = objdump()
    try:
        return None if tool is None else run_on(data, tool, "--disassemble", "--wide")
    except ToolFailed:
        return None


def level_used(listing: str) -> LevelUsed:
    """Return the level that the code in objdump's `listing` needs."""
    highest = LevelUsed(LEVELS[0], "")
    # One of each: a library has hundreds of thousands of instructions, of a few hundred kinds.
    seen: set[tuple[str, str, bool]] = set()
    for code, name, operands in _INSTRUCTION.findall(listing):
        encoding = next(byte for byte in (*code.split(), "") if byte not in _PREFIXES)
        kind = (encoding, name, "%k" in operands)
        if kind not in seen:
            seen.add(kind)
            level = _level_of(*kind)
            if exceeds(level, highest.level):
                highest = LevelUsed(level, f"{name} {operands.strip()}".strip())
    return highest


def _level_of(encoding: str, name: str, masked: bool) -> str:
    """Return the lowest level that has an instruction, by how it begins, its name, and whether it has a mask."""
    if _BEYOND.match(name):
        return BEYOND
    if encoding in _EVEX or (encoding in _VEX and masked):
        return LEVELS[3]
    if encoding in _VEX or name in _V3:
        return LEVELS[2]
    return LEVELS[1] if _V2.match(name) else LEVELS[0]
