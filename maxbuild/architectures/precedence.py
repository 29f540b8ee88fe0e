"""Tell which of transformers' own architectures are stood in for, without importing it or the module that does so."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path

from maxbuild.architectures.modules import ArchitectureModule

_AUTO_CLASSES = Path("models", "auto", "modeling_auto.py")
"""Where transformers has the names of its architectures, as text in tables."""


def stand_ins(modules: Sequence[ArchitectureModule]) -> Sequence[str]:
    """Return a sentence for each architecture of these modules that transformers has one of the same name of.

    Names that a module makes up while it is imported are not seen.
    """
    if not any(module.brings for module in modules):
        return ()
    known = _names_of_transformers()
    return [
        f"`{name}` of the custom architecture module `{module.name}` stands in for transformers' own"
        for module in modules
        for name in module.brings
        if name in known
    ]


def _names_of_transformers() -> frozenset[str]:
    spec = importlib.util.find_spec("transformers")  # imports nothing: it has no parent
    if spec is None or spec.origin is None:
        return frozenset()
    try:
        text = (Path(spec.origin).parent / _AUTO_CLASSES).read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    return frozenset(re.findall(r'"(\w+)"', text))
