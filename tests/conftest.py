"""What all tests share: a store that keeps compiles for the whole run, and the demo built into it once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Space:
    """A scratch world: a folder to work in, and a store. Commands are the real ones, in processes of their own."""

    folder: Path
    store: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def maxbuild(self, *arguments: str | Path, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        """Run `maxbuild` with these arguments and return what it printed and its exit code."""
        return subprocess.run(
            [sys.executable, "-m", "maxbuild", *map(str, arguments)],
            cwd=self.folder,
            env={**os.environ, "MAXBUILD_STORE": str(self.store), "NO_COLOR": "1", **self.environment},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


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
