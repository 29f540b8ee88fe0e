"""The servers that the tests of the remote cache share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from remote.samples import Opener
from remote.servers import Nginx, Server, nginx, serving


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no proxy of the environment stand between the tests and the servers of this host."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server() -> Iterator[Server]:
    """Return a server that holds nothing and tells the truth."""
    with serving(Server()) as running:
        yield running


@pytest.fixture(scope="session")
def running_nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """Return the nginx that all tests share: each takes an instance of its own, or cleans up."""
    with nginx(tmp_path_factory.mktemp("nginx")) as running:
        yield running


@pytest.fixture
def opened() -> Iterator[Opener]:
    """Return what opens remote caches for one test."""
    opener = Opener()
    yield opener
    opener.close()
