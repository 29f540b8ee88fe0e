"""What the key of a compile says of the compiler."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from maxbuild.targets.toolchain import compiler_version


@pytest.mark.parametrize("program", ["g++", "as", "ld"])
def test_everything_that_makes_code_is_named(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another compiler, assembler or linker on the PATH is another toolchain, and so is another C library."""
    monkeypatch.delenv("CXX", raising=False)
    told = compiler_version.__wrapped__()
    fake = tmp_path / program
    fake.write_text("#!/bin/sh\necho another 1.0\necho more\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    changed = compiler_version.__wrapped__()

    assert changed != told
    assert "another 1.0" in changed.split("; ")
    assert str(os.confstr("CS_GNU_LIBC_VERSION")) in changed.split("; ")


def test_a_compiler_that_is_missing_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a compiler nothing else counts."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert compiler_version.__wrapped__() == "none"
