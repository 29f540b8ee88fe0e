"""gpu_check: on a machine with a GPU and without network, install the wheels that were carried there, then check.

    python3 -m bench.gpu_check dist/gpu-wheels [arguments of bench.gpu]

Nothing of the machine's own Python is changed: an environment of ours sees its packages and has the wheels besides.
"""

from __future__ import annotations

import site
import subprocess
import sys
import venv
from pathlib import Path

_ROOT = Path(__file__).parent.parent
_ENVIRONMENT = _ROOT / "dist" / "gpu-venv"


def make_environment(folder: Path, wheels: Path) -> Path:
    """Make an environment in `folder` over this Python's packages, install the wheels, and return its Python."""
    builder = venv.EnvBuilder(system_site_packages=True, clear=True, with_pip=False, symlinks=True)
    builder.create(folder)
    python = folder / "bin" / "python"
    # Where this Python is an environment itself, the new one sees the packages of the Python beneath it, not its own.
    purelib = _answer(python, "import sysconfig; print(sysconfig.get_path('purelib'))")
    (Path(purelib) / "_beneath.pth").write_text("".join(f"{place}\n" for place in site.getsitepackages()))
    pip = [python, "-m", "pip", "install", "--quiet", "--no-index", "--disable-pip-version-check"]
    subprocess.run([*pip, f"--find-links={wheels}", f"--requirement={wheels / 'requirements.txt'}"], check=True)
    return python


def _answer(python: Path, code: str) -> str:
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def main() -> int:
    """Install and run."""
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    wheels, arguments = Path(sys.argv[1]).absolute(), sys.argv[2:]
    if not (wheels / "requirements.txt").is_file():
        print(f"error: no wheels in {wheels}\n\nhint: `just gpu-wheels` fetches them where there is a network")
        return 2
    python = make_environment(_ENVIRONMENT, wheels)
    return subprocess.run([python, "-m", "bench.gpu", *arguments], cwd=_ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
