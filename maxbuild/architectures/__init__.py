"""What the module of a custom architecture is written with; docs/custom-architectures.md is its page.

Invariant: importing this costs no torch, so that whoever only reads about architectures does not pay for one.
"""

from __future__ import annotations

from maxbuild.architectures.declaration import Architecture
from maxbuild.architectures.operator import Operator, launch
from maxbuild.targets.devices import Device

__all__ = ["Architecture", "Device", "Operator", "launch"]
