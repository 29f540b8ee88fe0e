"""A hub of our own, and this process set up to speak to it alone."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.utils import _http

sys.path.append(str(Path(__file__).parent))  # so that the modules beside this one are found from here

from downloads import SIZES, Remote, noise, remote_of
from hub_world import REPOSITORY, Command, Done
from server import Hub

from maxbuild.cli import main
from maxbuild.hub import listing, patience
from maxbuild.manifest import Manifest, load_manifest


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Return a hub; huggingface_hub, which reads its environment once, is told of it, and that nobody waits."""
    with Hub() as hub:
        home = tmp_path / "huggingface"
        settings = {
            "ENDPOINT": hub.address,
            "HUGGINGFACE_CO_URL_TEMPLATE": hub.address + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_ASSETS_CACHE": str(home / "assets"),
            "HF_TOKEN_PATH": str(home / "token"),
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_TELEMETRY": True,
        }
        for name, value in settings.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        no_wait = SimpleNamespace(sleep=lambda _: None, time=time.time, monotonic=time.monotonic)
        monkeypatch.setattr(_http, "time", no_wait)
        monkeypatch.setattr("huggingface_hub.file_download.time", no_wait)
        monkeypatch.setattr(listing, "WAITS", (0.0, 0.0))
        monkeypatch.setattr(patience, "sleep", lambda _: None)
        yield hub
        huggingface_hub.close_session()


@pytest.fixture
def cache(hub: Hub) -> Path:
    """Return the folder of the hub cache."""
    return Path(constants.HF_HUB_CACHE)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return what forbids the network."""
    return lambda: monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def command(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return what carries out a command of maxbuild's in this process, with a store of its own."""
    monkeypatch.setenv("MAXBUILD_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*arguments: object) -> Done:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Done(code, *capsys.readouterr())

    return run


@pytest.fixture
def write_manifest(tmp_path: Path) -> Callable[..., Manifest]:
    """Return what writes a manifest of one model and reads it."""

    def write(repo_id: str = REPOSITORY, **options: str) -> Manifest:
        lines = [f"    {name}: {value}\n" for name, value in {"model_path": repo_id, **options}.items()]
        path = tmp_path / "gemma.yaml"
        path.write_text("version: 1\nname: gemma\ntargets: [cpu]\nmodels:\n  main:\n" + "".join(lines))
        return load_manifest(path)

    return write


@pytest.fixture(params=SIZES, ids=["small", "large"])
def remote(hub: Hub, request: pytest.FixtureRequest) -> Remote:
    """Return a hub with one file."""
    return remote_of(hub, noise(request.param))


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return how long was waited between tries, in pieces; nobody waits."""
    waited: list[float] = []
    monkeypatch.setattr(patience, "sleep", waited.append)
    return waited
