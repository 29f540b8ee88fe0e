"""Keep what was found beside the package, and take it away again."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from maxbuild.errors import UsageError
from maxbuild.runtime.tuning import Tuning

_DRIVERS = {"cuda": "nvidia", "hip": "amdgpu"}


def driver_version(api: str, root: Path = Path("/")) -> str | None:
    """Return the version of the kernel's driver for GPUs of `api`; None where it tells none. root: of the system."""
    with suppress(OSError, KeyError):
        return (root / "sys/module" / _DRIVERS[api] / "version").read_text().strip() or None
    return None


def write_tuning(tuning: Tuning, file: Path) -> None:
    """Write `tuning` to `file`, whole or not at all; UsageError where that cannot be written."""
    content = json.dumps(tuning.to_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    scratch = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        try:
            scratch.write_text(content, encoding="utf-8")
            scratch.replace(file)
        finally:
            scratch.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(
            f"cannot write `{file}`",
            causes=[error.strerror or str(error)],
            hint="a tuning lies beside its package: copy the package to where you may write",
        ) from error


def remove_tuning(file: Path) -> bool:
    """Remove `file` and tell whether it was there; UsageError where that cannot be."""
    try:
        file.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UsageError(f"cannot remove `{file}`", causes=[error.strerror or str(error)]) from error
    return True
