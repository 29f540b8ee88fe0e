"""What the tests of the hub download, and how."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from maxbuild.engine import JSON, Job
from maxbuild.lock import LockedFile, LockedRepository
from maxbuild.steps import download

MODEL = Path(__file__).parents[2] / "examples" / "models" / "tiny-gemma3"
REPOSITORY = "acme/tiny-gemma3"
DRAFT = "acme/tiny-draft"
WEIGHTS = struct.pack("<Q", 2) + b"{}"
"""A safetensors file without tensors."""
TOKEN = "what-nobody-may-see"


class Done(NamedTuple):
    """What a command did: its exit code, and what it wrote."""

    code: int
    out: str
    err: str


Command = Callable[..., Done]
"""A command of maxbuild's: arguments to what it did."""


def download_file(
    repository: LockedRepository,
    path: str,
    scratch: Path,
    progress: Callable[[int, int | None], None] = lambda *_: None,
    **expected: Any,
) -> Path:
    """Carry out the download of one file, with other expectations where they are named."""
    file: LockedFile = next(file for file in repository.files if file.path == path)
    task = download.download_task(repository, file, "main")
    params: dict[str, JSON] = {**task.params, **expected}
    return download.run(Job(params, {}, scratch, progress, task.local))["file"]
