"""gpu_wheels: fetch the wheels that a machine with torch, Triton and transformers, but without network, lacks.

    python -m bench.gpu_wheels dist/gpu-wheels --python 3.12

Such a machine has what those three need, in versions that go with them. The folder gets the rest of what maxbuild
needs, as wheels for that Python on Linux on x86-64, and a `requirements.txt` that names it; `bench.gpu_check` installs
it there.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bench.machine import ROOT

REQUIREMENTS = "requirements.txt"
_THERE = ("torch", "triton", "transformers")
_MOST = 64 << 20
"""Bytes of what can be carried along to such a machine."""

# pip takes a tag to mean that one alone: the versions of glibc that wheels are made for, up to that of Debian 12.
_PLATFORMS = tuple(f"manylinux_2_{minor}_x86_64" for minor in (5, 12, 17, 24, 26, 27, 28, 31, 34, 35, 36))


def main() -> int:
    """Fetch, and print what was fetched and its size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the wheels go; it is emptied")
    parser.add_argument("--python", default="3.12", help="the version of the Python there")
    options = parser.parse_args()
    wheels = fetch(options.folder, options.python)
    size = sum(wheel.stat().st_size for wheel in wheels)
    for wheel in wheels:
        print(f"{wheel.stat().st_size / 1024:8.0f} KiB  {wheel.name}")
    print(f"{size / (1 << 20):8.1f} MiB  in {options.folder}", flush=True)
    if size > _MOST:
        print(f"error: that is more than {_MOST >> 20} MiB", file=sys.stderr)
    return int(size > _MOST)


def fetch(folder: Path, python: str) -> list[Path]:
    """Fill `folder`, and return its wheels."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    names = folder / REQUIREMENTS
    names.write_text("".join(f"{requirement}\n" for requirement in lacking()))
    platforms = [f"--platform={platform}" for platform in _PLATFORMS]
    options = ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}", *platforms]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *options, f"--dest={folder}", f"--requirement={names}"], check=True)
    return sorted(folder.glob("*.whl"))


def lacking() -> list[Requirement]:
    """Return maxbuild's requirements, those for CUDA targets included, that the machine does not bring."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    own = [Requirement(text) for text in [*project["dependencies"], *project["optional-dependencies"]["cuda"]]]
    there = {canonicalize_name(name) for needed in _THERE for name in (needed, *_needs(needed))}
    return [requirement for requirement in own if canonicalize_name(requirement.name) not in there]


def _needs(name: str) -> list[str]:
    """Return what a package needs itself. What those need in turn changes with their versions: it is carried along."""
    needed = [Requirement(text) for text in requires(name) or ()]
    return [r.name for r in needed if r.marker is None or r.marker.evaluate({"extra": ""})]


if __name__ == "__main__":
    sys.exit(main())
