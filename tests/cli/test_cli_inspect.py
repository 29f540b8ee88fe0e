"""The words and pictures of `inspect`: tables, warnings, checks and charts of packages made up for it."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from cli_world import Maxbuild
from syrupy.assertion import SnapshotAssertion

from maxbuild.inspect.checks import Check, Outcome
from maxbuild.inspect.kernel import Kernel, Launch, Usage
from maxbuild.inspect.kernels import Warned
from maxbuild.inspect.mix import Mix
from maxbuild.inspect.package import Inspection
from maxbuild.inspect.region import Region
from maxbuild.inspect.wrapper import Wrapper
from maxbuild.report.inspect import inspection_text
from maxbuild.report.inspect_picture import comparison_svg
from maxbuild.report.terminal import Terminal
from maxbuild.targets.devices import device_of
from maxbuild.targets.spelling import parse_target


def kernel(name: str, stack: int, shared: int, mix: Mix | None, *, amd: bool) -> Kernel:
    """Return a kernel as an inspection would."""
    file, size = f"{name}.{'hsaco' if amd else 'cubin'}", 5_328 if amd else 9_816
    launch = Launch(name, file, name, shared, 4, 2, 64 if amd else 32, "inductor")
    usage = Usage(96, 16 if amd else None, 30 if amd else None, stack, 7 if amd and stack else None, 0)
    return Kernel(launch, size, usage, mix)


def inspection(target: str, folder: str) -> Inspection:
    """Return an inspection of a package of two regions."""
    parsed = parse_target(target)
    gpu, amd = parsed.api != "cpu", parsed.api == "hip"
    wrapper = Wrapper(
        383_272, ("libtorch_cpu.so",), {"libc.so.6": "GLIBC_2.34"}, parsed.arch if not gpu else "x86-64-v2", not gpu
    )
    kernels = (
        kernel("triton_red_fused_mean_0", 0, 8, Mix(0, 12, 4, 4, 0, 2, 66), amd=amd),
        kernel("attend_decode_1", 344, 262_144, Mix(128, 40, 64, 192, 135, 4, 673), amd=amd),
    )
    checks = (
        Check("archive", "main/before", Outcome.PASSED),
        Check("symbols", "main/before", Outcome.UNCHECKED, "2 of 9 are left to libcuda.so.1, not on this host: a, b"),
        Check("symbols", "main/decoder", Outcome.UNCHECKED, "2 of 9 are left to libcuda.so.1, not on this host: a, b"),
        Check("architecture", "main/decoder attend_decode_1", Outcome.FAILED, "it is built for sm_80, not for \x1b[2J"),
    )
    warnings = (Warned("main/decoder attend_decode_1", "344 bytes of stack per thread: registers are spilled"),)
    regions = (
        Region(
            ("main/before", "draft/before"), "regions/a.pt2", 404_000, wrapper, (), 0, checks[:2] if gpu else (), ()
        ),
        Region(
            ("main/decoder.full",),
            "regions/b.pt2",
            488_188,
            wrapper,
            kernels if gpu else (),
            0 if amd else 41_541,
            checks[2:] if gpu else (),
            warnings if gpu else (),
        ),
    )
    # Not the table's own figures: what is told of them is the same whatever they are.
    device = (
        replace(device_of(parsed), name=f"{parsed.arch}'s product", shared_memory_per_block=200_000) if gpu else None
    )
    return Inspection(Path(folder), "demo", target, device, regions)


BOTH = (inspection("cuda:sm_90", "packages/cuda-sm_90"), inspection("hip:gfx942", "packages/hip-gfx942"))
CPU = (inspection("cpu:x86-64-v3", "packages/cpu-x86-64-v3"),)
TWICE = (inspection("cuda:sm_90", "old/cuda-sm_90"), inspection("cuda:sm_90", "new/cuda-sm_90"))


@pytest.mark.parametrize("kernels", [False, True])
@pytest.mark.parametrize("inspections", [BOTH, CPU, TWICE], ids=["both", "cpu", "twice"])
def test_tables(inspections: tuple[Inspection, ...], kernels: bool, snapshot: SnapshotAssertion) -> None:
    """Targets stand side by side; what is the same for several regions is told once; nothing steers a terminal."""
    assert inspection_text(inspections, Terminal(sys.stdout), kernels=kernels) == snapshot


@pytest.mark.parametrize("width", [100, 80])
def test_a_narrow_terminal_has_a_heading_for_each_kernel(width: int, snapshot: SnapshotAssertion) -> None:
    """Figures keep their columns and names their length; what has no room is told, and what is wrong stands out."""
    told = inspection_text(BOTH, Terminal(sys.stdout, width, colour=True), kernels=True)
    assert told == snapshot
    table = re.sub(r"\x1b\[\d*m", "", told).split("\n\n")[1]
    assert max(map(len, table.split("\n"))) <= width


def test_in_any_terminal_no_figure_is_cut_and_headings_fit() -> None:
    """A name as long as Inductor's keeps both its ends; figures of kernels stay whole however narrow it is."""
    kernels = tuple(kernel(f"triton_per_fused_{'add_' * 40}{end}", 0, 8, None, amd=False) for end in "xy")
    region = replace(BOTH[0].regions[1], kernels=kernels)
    told = inspection_text([replace(BOTH[0], regions=(region,))], Terminal(sys.stdout, 60), kernels=True)
    table = told.split("\n\n")[1].split("\n")
    assert max(map(len, table)) <= 60
    assert [line[-1] for line in table if "triton_per" in line] == ["x", "y"]
    assert "wider" not in told
    assert [line.split()[1:] for line in table if "cuda:sm_90" in line] == [["9816", "4", "96", "0", "8"]] * 2


@pytest.mark.parametrize("inspections", [BOTH, CPU], ids=["both", "cpu"])
def test_pictures(inspections: tuple[Inspection, ...], snapshot: SnapshotAssertion) -> None:
    """Kernels of several targets as bars side by side; regions where there are no kernels."""
    assert comparison_svg(inspections) == snapshot


def test_a_picture_shows_only_who_has_kernels() -> None:
    """A package for CPUs has no bars among kernels, so it has no place in the legend either."""
    assert "cpu:x86-64-v3" not in comparison_svg([*BOTH, *CPU])
    assert "cpu:x86-64-v3" in comparison_svg(CPU)


def test_what_is_asked_wrongly_is_told(maxbuild: Maxbuild, snapshot: SnapshotAssertion) -> None:
    """Without a package, with an unknown option, and for a folder that is no package, the way on is told."""
    told = []
    for arguments in ((), ("--kernel", "."), (".",)):
        done = maxbuild("inspect", *arguments)
        told.append(f"$ inspect {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}")
    assert "\n".join(told) == snapshot
