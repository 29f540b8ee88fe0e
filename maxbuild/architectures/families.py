"""The families of targets that share an operator's lowering."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

FAMILIES: Final[Mapping[str, str]] = {"cpu": "cpu", "cuda": "gpu", "hip": "gpu"}
"""For each target API its family."""
