"""A model's files laid out as the folder that transformers expects, from the inputs of a task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

CODE = "code/"
"""Prefix of the inputs that are a repository's own Python files."""

WEIGHTS = "weights/"
"""Prefix of the inputs that are weight files."""


POOLING = "pooling/"
"""Prefix of the inputs that say how an embedding model pools, sentence-transformers' files."""


def lay_out(inputs: Mapping[str, Path], folder: Path) -> Path:
    """Link the config, the code and the weight files among `inputs` into `folder` and return it."""
    names = {
        role.removeprefix(CODE).removeprefix(WEIGHTS): path
        for role, path in inputs.items()
        if role == "config.json" or role.startswith((CODE, WEIGHTS))
    }
    for name, path in names.items():
        link = folder / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    return folder


def under(inputs: Mapping[str, Path], prefix: str) -> dict[str, Path]:
    """Return the inputs whose role begins with `prefix`, by the rest of it."""
    return {role.removeprefix(prefix): path for role, path in inputs.items() if role.startswith(prefix)}
