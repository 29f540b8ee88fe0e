"""On which device of this host a package runs, and whether its weights have room there.

Invariant: whoever asked for a device gets that one or an error, never another; what can refuse without a driver does so
before torch is imported. torch calls the GPUs of both makers `cuda`, and so does everything here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from maxbuild.errors import PackageError, UsageError
from maxbuild.targets.host import runs_on
from maxbuild.targets.spelling import Target

if TYPE_CHECKING:
    import torch

_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU as torch tells of it: its name, and the target that it is, whether packages can be built for it or not."""

    name: str
    target: Target

    def __str__(self) -> str:
        return f"{self.name} ({self.target.spelling})"


class Gpus(Protocol):
    """The GPUs that this process may use, by the numbers that torch gives them."""

    def all(self) -> Sequence[Gpu]:
        """Return them in order. Raise PackageError where torch can use none."""

    def memory(self, index: int) -> tuple[int, int]:
        """Return how many bytes of a GPU's memory are free, and how many there are."""


class TorchGpus:
    """The GPUs of this host, asked of torch, which loads the driver."""

    def all(self) -> Sequence[Gpu]:
        """Return them in order. Raise PackageError where torch can use none."""
        import torch  # noqa: PLC0415 - costly, and a CPU's package never asks

        try:
            torch.cuda.init()
        except (RuntimeError, AssertionError) as error:  # a driver that is too old is among them, in torch's words
            raise PackageError(
                f"torch {torch.__version__} cannot use this host's GPUs",
                causes=[str(error).strip().partition("\n")[0]],
                hint="update the driver, or install a torch that was built for what the driver supports",
            ) from error
        return [gpu_of(torch.cuda.get_device_properties(index)) for index in range(torch.cuda.device_count())]

    def memory(self, index: int) -> tuple[int, int]:
        """Return how many bytes of a GPU's memory are free, and how many there are."""
        import torch  # noqa: PLC0415

        free, total = torch.cuda.mem_get_info(index)
        return free, total


def gpu_of(properties: object) -> Gpu:
    """Return the GPU that torch describes by its device properties."""
    # On ROCm the properties have the LLVM target, with its features after a colon: gfx90a:sramecc+:xnack-.
    arch = str(getattr(properties, "gcnArchName", "")).partition(":")[0]
    if arch.startswith("gfx"):
        target = Target("hip", arch)
    else:
        target = Target("cuda", f"sm_{getattr(properties, 'major', 0)}{getattr(properties, 'minor', 0)}")
    return Gpu(str(getattr(properties, "name", "a GPU")), target)


def asked_index(target: Target, asked: str | None) -> int | None:
    """Return which GPU `asked` names, None where it names none in particular: None, `cpu` or `cuda`.

    Raise UsageError where it is no device, PackageError where a package for `target` does not run on such a one.
    """
    if asked is None:
        return None
    match = re.fullmatch(r"(cpu)|cuda(?::(\d{1,3}))?", asked, re.ASCII)
    if match is None:
        raise UsageError(
            f"no device is called `{asked}`",
            hint="devices are `cpu`, `cuda` and `cuda:1`, for the second GPU; AMD's are called `cuda` too",
        )
    if (match[1] is not None) != (target.api == "cpu"):
        raise PackageError(f"the package is built for `{target.spelling}`, it does not run on the device `{asked}`")
    return int(match[2]) if match[2] else None


def choose_device(target: Target, index: int | None, gpus: Gpus) -> torch.device:
    """Return the device that a package for `target` runs on: the GPU `index`, or the first one that the target fits.

    Raise PackageError where there is none.
    """
    import torch  # noqa: PLC0415

    if target.api == "cpu":
        return torch.device("cpu")
    there = gpus.all()
    fitting = [number for number, gpu in enumerate(there) if runs_on(target, gpu.target)]
    if index is None and fitting:
        return torch.device("cuda", fitting[0])
    if index is not None and index in fitting:
        return torch.device("cuda", index)
    raise PackageError(
        f"the package is built for `{target.spelling}`, which "
        + ("no GPU here runs" if index is None else f"`cuda:{index}` does not run"),
        causes=[f"`cuda:{number}` is {gpu}" for number, gpu in enumerate(there)] or ["torch sees no GPU"],
        hint=f"`--device cuda:{fitting[0]}` would" if fitting else None,
    )


def check_memory(place: torch.device, needed: int, gpus: Gpus) -> None:
    """Raise PackageError where the GPU `place` has fewer than `needed` bytes free."""
    free, total = gpus.memory(place.index)
    if free < needed:
        raise PackageError(
            f"the weights take {_gib(needed)} GiB, and `{place}` has {_gib(free)} GiB free of {_gib(total)}",
            hint="free it, or name another device with `--device`",
        )


def _gib(count: int) -> str:
    return f"{count / _GIB:.2f}"
