"""`--version`: the versions that shape artifacts, read from the installed metadata without importing anything."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("maxbuild", "torch", "triton", "transformers")


def version_text() -> str:
    """Return one line per package, `torch 2.13.0`, and one for the interpreter."""
    lines = [f"{package} {_version_of(package)}" for package in _PACKAGES]
    return "\n".join([*lines, f"python {platform.python_version()}"])


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
