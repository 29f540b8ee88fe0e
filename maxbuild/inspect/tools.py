"""Programs that take machine code apart, each run on a copy in a folder of its own; they run nothing of it."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

from maxbuild.targets.parts import triton_folder

_SECONDS = 120
"""Longer than any tool takes for one file; a damaged one could keep it busy for ever."""


class ToolFailed(Exception):
    """A tool could not make sense of a file; the text is its own first line."""


@functools.cache
def cuobjdump() -> Path | None:
    """Return NVIDIA's `cuobjdump` as Triton's wheel brings it, with the `nvdisasm` it needs beside it; None without."""
    folder = triton_folder()
    path = None if folder is None else folder / "backends" / "nvidia" / "bin" / "cuobjdump"
    return path if path is not None and path.is_file() else None


@functools.cache
def objdump() -> Path | None:
    """Return binutils' `objdump`; None where it is not installed."""
    found = shutil.which("objdump")
    return None if found is None else Path(found)


def run_on(data: bytes, tool: Path, *arguments: str) -> str:
    """Return what `tool` prints of a file that holds `data`; ToolFailed where it fails."""
    with tempfile.TemporaryDirectory(prefix="maxbuild-inspect-") as folder:
        file = Path(folder) / "file"
        file.write_bytes(data)
        try:
            done = subprocess.run(
                [tool, *arguments, file], capture_output=True, stdin=subprocess.DEVNULL, timeout=_SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise ToolFailed(f"{tool.name} came to no end") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").replace(f"{folder}/", "").strip().splitlines()
        raise ToolFailed(f"{tool.name}: {said[0] if said else f'exit code {done.returncode}'}")
    return done.stdout.decode(errors="replace")
