"""Modules that a test imports as custom architectures are gone after it."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from maxbuild.architectures.registry import use_architectures


@pytest.fixture(autouse=True)
def _own_modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put back where modules are found, which there are, and which architectures are known."""
    known = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in set(sys.modules) - known:
        if name.partition(".")[0] in {"made", "made_a", "made_b", "first", "second", "tern"}:
            del sys.modules[name]
    use_architectures([])
