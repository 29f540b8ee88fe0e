"""What all tests share: a store that keeps compiles for the whole run, and the demo built into it once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from spaces import ROOT, Space


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all workers of this run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base


@pytest.fixture(scope="session")
def shared_store(shared_folder: Path) -> Path:
    """Return the store that keeps compiles for all tests of this run; its locks let each compile happen once."""
    return shared_folder / "shared-store"


@pytest.fixture(scope="session")
def demo_package(shared_folder: Path, shared_store: Path) -> Path:
    """Return the demo's package for this host, built by the real command."""
    space = Space(shared_folder, shared_store)
    done = space.maxbuild("warm", ROOT / "manifests" / "demo.yaml", "--output", shared_folder / "packages")
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture
def space(tmp_path: Path, shared_store: Path) -> Space:
    """Return a scratch folder over the shared store."""
    return Space(tmp_path, shared_store)


@pytest.fixture
def empty_space(tmp_path: Path) -> Space:
    """Return a scratch folder over a store of its own, empty."""
    return Space(tmp_path, tmp_path / "store")
