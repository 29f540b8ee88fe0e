"""Which toolkit stands in for that of each kind of GPU."""

from __future__ import annotations

from maxbuild.targets import cuda, hip
from maxbuild.targets.toolkit import Toolkit


def toolkit_of(api: str) -> Toolkit:
    """Return the toolkit of `cuda` or `hip`."""
    return {"cuda": cuda.TOOLKIT, "hip": hip.TOOLKIT}[api]
