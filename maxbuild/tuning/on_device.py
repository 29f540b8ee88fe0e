"""Tune a package on a GPU of this host."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from maxbuild.errors import PackageError, UsageError
from maxbuild.runtime import load_package
from maxbuild.runtime.device import Gpus, TorchGpus
from maxbuild.runtime.package import PackageHeader, read_header
from maxbuild.runtime.tuning import Circumstances, Tuning, header_digest
from maxbuild.tuning.record import driver_version

if TYPE_CHECKING:
    import torch

    from maxbuild.tuning.clock import Clock


def tune_package(
    folder: Path,
    device: str | None,
    say: Callable[[str], None],
    *,
    gpus: Gpus | None = None,
    clock_of: Callable[[torch.device], Clock] | None = None,
) -> Tuning:
    """Try all alternatives of the package in `folder` and return what came of it; `say` is told what is going on.

    device: as `load_package` takes it. gpus, clock_of: in place of what torch tells of the GPUs, and of an EventClock.
    Raise UsageError where there is nothing to try, PackageError where the package is damaged, or not for this host.
    """
    header = read_header(folder)
    require_alternatives(folder, header)
    digest = header_digest(folder)
    package = load_package(folder, device=device, tuned=False)
    import torch  # noqa: PLC0415 - after who refuses early

    from maxbuild.runtime.model import Region  # noqa: PLC0415
    from maxbuild.tuning.clock import EventClock  # noqa: PLC0415
    from maxbuild.tuning.tuner import tune  # noqa: PLC0415

    place = package.device
    gpu = (gpus or TorchGpus()).all()[place.index or 0]
    try:
        found = tune(package, lambda path: Region(path, place), (clock_of or EventClock)(place), say)
    except RuntimeError as error:  # torch's: no memory left, or a kernel failed that ran meanwhile
        raise PackageError(
            f"`{place}` failed while the package was timed", causes=[str(error).strip().partition("\n")[0]]
        ) from error
    made_with = Circumstances(digest, gpu.name, gpu.target.spelling, str(torch.__version__))
    return Tuning(made_with, driver_version(gpu.target.api), found.choices, found.trials)


def require_alternatives(folder: Path, header: PackageHeader) -> None:
    """Raise UsageError where the package has nothing to choose among."""
    if header.alternatives_by_path:
        return
    if header.built_for.api == "cpu":
        raise UsageError(
            f"package `{folder}` is built for `{header.target}`, and packages for CPUs have no alternatives to time",
            causes=["alternatives are other configurations of Triton's kernels, which are for GPUs alone"],
        )
    raise UsageError(
        f"package `{folder}` holds no alternatives to time",
        hint="build it with `alternatives: 1` under `compile` in its manifest, or with more",
    )
