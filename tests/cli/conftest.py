"""The fixtures of the commands' tests: a world, the real command, and texts with times and digests taken out."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# At the end: other folders' tests import their own `conftest` by its bare name.
sys.path.append(str(Path(__file__).parent))

from cli_world import ROOT, Maxbuild, World
from toyplans import Toy

from maxbuild.engine import Store


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Return a world in which nothing was built."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "weights").write_text("1 2 3")
    with Store(tmp_path / "store") as store:
        yield World(Toy(folder), store)


@pytest.fixture
def steady(tmp_path: Path) -> Callable[[str], str]:
    """Return a filter that takes out of a text what differs from run to run: paths, times, digests."""

    def filtered(text: str) -> str:
        text = text.replace(str(tmp_path), "TMP").replace(str(ROOT), "ROOT")
        text = re.sub(r"\b\d\.\d\d s\b", "#.## s", text)
        text = re.sub(r"\b\d{8}T\d{6}\.\d{6}Z-[0-9a-f]{8}\b", "<run>", text)
        return re.sub(r"\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])([0-9a-f]{64}|[0-9a-f]{12})\b", "<digest>", text)

    return filtered


@pytest.fixture
def maxbuild(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Maxbuild:
    """Return a function that runs the real command in an empty folder, with a store of its own."""
    monkeypatch.setenv("MAXBUILD_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8")

    def run(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "maxbuild", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **options,  # type: ignore[call-overload]
        )

    return run
