"""Targets: how they are spelled, and what the host is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from maxbuild.errors import UsageError
from maxbuild.targets.spelling import Target, host_levels, host_target, parse_target, runs_on_host


def test_a_full_spelling_is_its_own_target() -> None:
    """Parsing and spelling are inverse."""
    assert parse_target("cpu:x86-64-v3") == Target("cpu", "x86-64-v3")
    assert parse_target("cpu:x86-64-v3").spelling == "cpu:x86-64-v3"
    assert parse_target("cpu:x86-64-v3").folder == "cpu-x86-64-v3"


def test_bare_cpu_is_this_hosts() -> None:
    """The bare spelling stands for the host's best level, which runs here."""
    assert parse_target("cpu") == host_target()
    assert runs_on_host(host_target())


@pytest.mark.parametrize("text", ["cuda", "cuda:sm_90", "hip:gfx942", "cpu:", "cpu:avx2", "CPU", "", "cpu:x86-64-v33"])
def test_anything_else_is_refused_with_a_hint(text: str) -> None:
    """What is not supported yet and what is misspelled both get a way out."""
    with pytest.raises(UsageError) as caught:
        parse_target(text)
    assert caught.value.hint


def test_levels_are_read_from_the_flags_of_the_cpu(tmp_path: Path) -> None:
    """A level counts only with all flags of those below."""
    v2 = "cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3"
    v4 = "avx512f avx512bw avx512cd avx512dq avx512vl"
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor: 0\nflags\t\t: fpu {v2} {v4}\n")
    assert host_levels(cpuinfo) == ("x86-64-v2",)
    cpuinfo.write_text(f"flags: {v2} avx avx2 bmi1 bmi2 f16c fma abm movbe xsave {v4}\n")
    assert host_levels(cpuinfo) == ("x86-64-v2", "x86-64-v3", "x86-64-v4")
    assert host_levels(tmp_path / "nowhere") == ()
