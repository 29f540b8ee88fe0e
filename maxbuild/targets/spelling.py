"""How a target is spelled, `api:arch` as in `cpu:x86-64-v3`, and what this host is called in that spelling.

Invariant: a target never depends on the host it is built on, once it is spelled in full; only the bare `cpu` asks.
"""

from __future__ import annotations

import difflib
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from maxbuild.errors import UsageError

# The levels of the x86-64 psABI (https://gitlab.com/x86-psABIs/x86-64-ABI, "Micro-Architecture Levels"), each with the
# flags of /proc/cpuinfo that tell it from the one below. A host has a level only if it has all those below.
_X86_64_LEVELS: Mapping[str, frozenset[str]] = {
    "x86-64-v2": frozenset({"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"}),
    "x86-64-v3": frozenset({"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"}),
    "x86-64-v4": frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
}

_KNOWN_LATER = ("cuda", "hip")


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """An API and an architecture that packages are built for."""

    api: str
    arch: str

    @property
    def spelling(self) -> str:
        """Return the full spelling, `api:arch`."""
        return f"{self.api}:{self.arch}"

    @property
    def folder(self) -> str:
        """Return the spelling as one part of a path."""
        return f"{self.api}-{self.arch}"


def parse_target(text: str) -> Target:
    """Return the target that `text` spells; bare `cpu` is this host's. Raise UsageError where it spells none."""
    api, colon, arch = text.partition(":")
    if api in _KNOWN_LATER:
        raise UsageError(
            f"target `{text}` is not supported yet", hint="supported targets: " + ", ".join(_all_spellings())
        )
    if text == "cpu":
        return host_target()
    if api == "cpu" and colon and arch in _X86_64_LEVELS:
        return Target(api, arch)
    nearest = difflib.get_close_matches(text, _all_spellings(), n=1)
    hint = f"did you mean `{nearest[0]}`?" if nearest else "supported targets: " + ", ".join(_all_spellings())
    raise UsageError(f"no target is called `{text}`", hint=hint)


def host_target() -> Target:
    """Return the CPU target that fits this host best; raise UsageError on a kind of CPU without a known baseline."""
    levels = host_levels()
    if not levels:
        raise UsageError(
            f"this host's CPU ({platform.machine()}) has no baseline that packages can be built for",
            hint="supported targets: " + ", ".join(_all_spellings()),
        )
    return Target("cpu", levels[-1])


def host_levels(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, ...]:
    """Return the x86-64 levels that this host's CPU has, lowest first."""
    if platform.machine() not in {"x86_64", "AMD64"}:
        return ()
    flags = _cpu_flags(cpuinfo)
    levels: list[str] = []
    for level, needed in _X86_64_LEVELS.items():
        if not needed <= flags:
            break
        levels.append(level)
    return tuple(levels)


def runs_on_host(target: Target) -> bool:
    """Tell whether this host can run what is built for `target`."""
    return target.api == "cpu" and target.arch in host_levels()


def _cpu_flags(cpuinfo: Path) -> frozenset[str]:
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return frozenset()
    return next((frozenset(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), frozenset())


def _all_spellings() -> tuple[str, ...]:
    return ("cpu", *(f"cpu:{level}" for level in _X86_64_LEVELS))
