"""The process that interprets kernels, one for all tests of a run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from interpreted import Interpreter


@pytest.fixture(scope="session")
def interpreter() -> Iterator[Interpreter]:
    """Return the interpreting process."""
    process = Interpreter()
    yield process
    process.close()
