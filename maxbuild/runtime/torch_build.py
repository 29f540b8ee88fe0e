"""What the torch that is installed here was built for, told without importing it.

Invariant: nothing of torch runs; a server that lacks the right one learns so in milliseconds.
"""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class TorchBuild:
    """A torch: its version, and those of CUDA or of ROCm's HIP that it was built with, if it was."""

    version: str
    cuda: str | None
    hip: str | None

    def serves(self, api: str) -> bool:
        """Tell whether this torch can use devices of `api`."""
        match api:
            case "cuda":
                return self.cuda is not None
            case "hip":
                return self.hip is not None
            case _:
                return True

    def __str__(self) -> str:
        if self.cuda is not None:
            return f"torch {self.version} is built for CUDA {self.cuda}"
        if self.hip is not None:
            return f"torch {self.version} is built for ROCm, with HIP {self.hip}"
        return f"torch {self.version} is built for CPUs alone"


def installed_torch() -> TorchBuild | None:
    """Return the torch that an import would find; None where there is none."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return None
    return read_build(version, Path(spec.origin).with_name("version.py"))


def read_build(version: str, source: Path) -> TorchBuild:
    """Read torch/version.py, which torch's own build writes (tools/generate_torch_version.py); without it: a CPU's."""
    found: dict[str, str] = {}
    tree = ast.parse(source.read_text(encoding="utf-8")) if source.is_file() else ast.Module([], [])
    for line in tree.body:
        targets = [line.target] if isinstance(line, ast.AnnAssign) else getattr(line, "targets", [])
        value = getattr(line, "value", None)
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            found.update({target.id: value.value for target in targets if isinstance(target, ast.Name)})
    return TorchBuild(version, found.get("cuda"), found.get("hip"))
