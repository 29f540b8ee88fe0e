"""What a bench ran on: figures mean something only beside the machine and the versions that made them."""

from __future__ import annotations

import os
import platform
import tomllib
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parent.parent
_PACKAGES = ("torch", "transformers")


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine and what is installed on it. memory: bytes. load: processes that ran or waited, at the start."""

    cpu: str
    cores: int
    memory: int
    load: float
    system: str
    versions: dict[str, str]

    def __str__(self) -> str:
        """Return one line for people."""
        versions = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        hardware = f"{self.cpu}, {self.cores} cores, {self.memory / 2**30:.0f} GiB memory, {self.system}"
        return f"{hardware}; {versions}; load {self.load:.1f} at the start"

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        return asdict(self)


def describe_machine() -> Machine:
    """Return this machine, as Linux tells it."""
    return Machine(
        cpu=_field(Path("/proc/cpuinfo"), "model name") or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        load=os.getloadavg()[0],
        system=f"{platform.system()} {platform.release()}",
        versions={
            "maxbuild": _own_version(),
            **{name: version(name) for name in _PACKAGES},
            "python": platform.python_version(),
        },
    )


def _field(path: Path, name: str) -> str | None:
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), None)


def _own_version() -> str:
    try:
        return version("maxbuild")
    except PackageNotFoundError:  # run from a checkout that is not installed
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
        return str(project["project"]["version"])
