"""The compile step: equal bytes anywhere, and no instruction beyond the target's."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from compile_step import compile_in, write_region

from maxbuild.engine import hash_file

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of one decoder region."""
    return write_region(tmp_path_factory.mktemp("region"), "llama", torch.float32, "decoder.full")


def test_artifacts_are_equal_to_the_byte_in_any_folder(region: Path, tmp_path: Path) -> None:
    """Folder, HOME, hash seed and variables that steer Inductor change no byte; AVX-512 of the host does not leak."""
    first = compile_in(tmp_path / "a", region, "cpu:x86-64-v3", PYTHONHASHSEED="0")
    other = {"PYTHONHASHSEED": "7", "HOME": str(tmp_path), "TORCHINDUCTOR_DEBUG_SYMBOL": "1", "OMP_NUM_THREADS": "1"}
    second = compile_in(tmp_path / "b" / "deeper", region, "cpu:x86-64-v3", **other)
    assert hash_file(first) == hash_file(second)

    with zipfile.ZipFile(first) as archive:
        library = next(name for name in archive.namelist() if name.endswith(".so"))
        content = archive.read(library)
        metadata = json.loads(archive.read(library.replace(".so", "_metadata.json")))
    assert metadata["AOTI_CPU_ISA"] == "AVX2"
    assert str(tmp_path).encode() not in content
    assert sys.prefix.encode() not in content
    if shutil.which("objdump") is None:
        pytest.skip("objdump (binutils) is not installed: the instructions were not looked at")
    (tmp_path / "region.so").write_bytes(content)
    listing = subprocess.run(["objdump", "-d", tmp_path / "region.so"], capture_output=True, text=True, check=True)
    assert "%ymm" in listing.stdout
    assert "%zmm" not in listing.stdout
