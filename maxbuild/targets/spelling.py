"""How a target is spelled: `api:arch`, as in `cpu:x86-64-v3`, `cuda:sm_90` and `hip:gfx942`.

Invariant: a target never depends on the host it is built on, once it is spelled in full; only a bare API asks `host`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from maxbuild.errors import UsageError

ARCHITECTURES: Mapping[str, tuple[str, ...]] = {
    # The levels of the x86-64 psABI (https://gitlab.com/x86-psABIs/x86-64-ABI, "Micro-Architecture Levels").
    "cpu": ("x86-64-v2", "x86-64-v3", "x86-64-v4"),
    # The real architectures of `nvcc --gpu-code`, one for each compute capability.
    "cuda": ("sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"),
    # The processors of LLVM's AMDGPU back end (https://llvm.org/docs/AMDGPUUsage.html#processors).
    "hip": ("gfx90a", "gfx942", "gfx950", "gfx1100"),
}
"""For each API what packages can be built for, oldest first."""

_BESIDE_A_GPU = "x86-64-v2"
"""The CPU's part of a region for a GPU allocates, sizes grids and launches: wider vectors would gain nothing, and there
are hosts of such GPUs, with small CPUs, that lack them."""


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

    @property
    def cpu_level(self) -> str:
        """Return the x86-64 level that a package's code for the CPU keeps to."""
        return self.arch if self.api == "cpu" else _BESIDE_A_GPU

    @property
    def capability(self) -> tuple[int, int] | None:
        """Return the compute capability of a CUDA target, (10, 0) for `sm_100`; None for others."""
        if self.api != "cuda":
            return None
        major, minor = divmod(int(self.arch.removeprefix("sm_")), 10)
        return major, minor


def all_targets() -> tuple[Target, ...]:
    """Return all targets that packages can be built for."""
    return tuple(Target(api, arch) for api, archs in ARCHITECTURES.items() for arch in archs)


def parse_target(text: str) -> Target:
    """Return the target that `text` spells; a bare API is this host's. Raise UsageError where it spells none."""
    if text in ARCHITECTURES:
        from maxbuild.targets.host import host_target  # noqa: PLC0415 - a full spelling asks no host

        return host_target(text)
    api, _, arch = text.partition(":")
    if arch in ARCHITECTURES.get(api, ()):
        return Target(api, arch)
    raise UsageError(f"no target is called `{text}`", hint=_way_out(text))


def _way_out(text: str) -> str:
    """Return the nearest spelling; of a known API all its architectures, for the nearest one may be another GPU."""
    known = [target.spelling for target in all_targets()]
    fitting = [spelling for spelling in known if spelling.startswith(f"{text.partition(':')[0]}:")]
    nearest = [] if fitting else difflib.get_close_matches(text, [*ARCHITECTURES, *known], n=1)
    if nearest:
        return f"did you mean `{nearest[0]}`?"
    return "supported targets: " + ", ".join(fitting or [*ARCHITECTURES, *known])
