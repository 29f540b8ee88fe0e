"""Downloads and the hub cache: after a kill, on a full disk, beside others, and where the file is there already."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import faults
import pytest
from downloads import NAME, Remote, is_untouched, noise, partials, remote_of
from hub_world import REPOSITORY
from huggingface_hub import constants
from server import Hub, sha256

from maxbuild.errors import MaxbuildError, StoreError, render
from maxbuild.hub import Wanted, fetch_file, list_repository

CHILD = """
import sys
from maxbuild.hub import Wanted, fetch_file
from maxbuild.lock import LockedFile
repo, commit, name, size, digest = sys.argv[1:]
print(fetch_file(Wanted(repo, commit, name), LockedFile(name, int(size), digest, None), lambda _: None).place)
"""


@pytest.fixture
def child(hub: Hub, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Return what downloads a file in a process of its own, into the cache of these tests."""

    def start(remote: Remote, prelude: str = "") -> subprocess.Popen[str]:
        environment = {
            "PATH": os.environ["PATH"],
            "HF_ENDPOINT": hub.address,
            "HF_HUB_CACHE": constants.HF_HUB_CACHE,
            "DO_NOT_TRACK": "1",
        }
        arguments = (REPOSITORY, remote.repository.commit, NAME, str(len(remote.content)), sha256(remote.content))
        return subprocess.Popen(
            [sys.executable, "-c", prelude + CHILD, *arguments],
            env=environment,
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def test_a_killed_download_is_taken_up(hub: Hub, cache: Path, child: Callable[..., subprocess.Popen[str]]) -> None:
    """Kill -9 in the middle of a file: the next process asks for the rest alone, and the file is right."""
    remote = remote_of(hub, noise(8 << 20))
    remote.fail(faults.stalled(remote.content, 6 << 20, 30))
    first = child(remote)
    deadline = time.monotonic() + 30
    while not (sizes := [path.stat().st_size for path in partials(cache)]) or sizes[0] < 4 << 20:
        assert first.poll() is None, first.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    (there,) = (path.stat().st_size for path in partials(cache))
    assert is_untouched(cache)
    hub.requests.clear()
    second = child(remote)
    out, err = second.communicate(timeout=60)
    assert second.returncode == 0, err
    assert Path(out.strip()).read_bytes() == remote.content
    assert remote.ranges() == [f"bytes={there}-"]
    assert not partials(cache)


def test_a_limit_on_file_sizes_is_the_disks_error(
    hub: Hub, cache: Path, child: Callable[..., subprocess.Popen[str]]
) -> None:
    """A disk that takes no more in mid-file: one message that names the cache, nothing that looks whole."""
    remote = remote_of(hub, noise(8 << 20))
    limited = child(
        remote,
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, 3 << 20))\n",
    )
    _, err = limited.communicate(timeout=60)
    assert limited.returncode == 1
    assert "StoreError: could not write `model.safetensors`" in err
    assert "File too large" in err
    assert is_untouched(cache)
    (there,) = (path.stat().st_size for path in partials(cache))
    assert 2 << 20 < there <= 3 << 20
    assert remote.fetch().place.read_bytes() == remote.content
    assert remote.ranges()[-1] == f"bytes={there}-"


def test_a_disk_that_is_too_small_is_told_before_any_byte_comes(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, small_disk: Path
) -> None:
    """Room is set aside first: the message says how much there is, nothing was asked for, and nothing is left."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(small_disk))
    remote = remote_of(hub, noise(8 << 20))
    with pytest.raises(StoreError, match="could not write") as caught:
        remote.fetch()
    assert "No space left on device" in render(caught.value)
    assert "bytes are free there" in render(caught.value)
    assert "HF_HOME" in (caught.value.hint or "")
    assert remote.ranges() == []
    assert is_untouched(small_disk)
    assert sum(path.stat().st_blocks for path in partials(small_disk)) == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a folder on a disk of 4 MiB; where nobody may mount one, there is no such test."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no right to mount a disk")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_again_downloads_what_is_there(remote: Remote) -> None:
    """`again` asks for all of it, and what is there after is the same under the same names."""
    first = remote.fetch()
    inode = first.place.stat().st_ino
    remote.hub.requests.clear()
    assert remote.fetch(again=True).sha256 == first.sha256
    assert remote.ranges() == [None]
    assert first.place.stat().st_ino != inode
    assert first.place.read_bytes() == remote.content


def test_again_is_not_possible_without_a_network(remote: Remote, offline: Callable[[], None]) -> None:
    """What is there stays, and the message says what contradicts what."""
    place = remote.fetch().place
    offline()
    with pytest.raises(MaxbuildError, match="HF_HUB_OFFLINE is set") as caught:
        remote.fetch(again=True)
    assert "force_download" in (caught.value.hint or "")
    assert place.read_bytes() == remote.content


def test_the_same_content_at_another_commit_is_not_downloaded(remote: Remote) -> None:
    """A blob that is there is linked, once it proves to be what is expected; the hub is not asked."""
    remote.fetch()
    remote.hub.push(REPOSITORY, {NAME: remote.content, "README.md": b"new"})
    later = list_repository(REPOSITORY, "main")
    file = next(file for file in later.files if file.path == NAME)
    remote.hub.requests.clear()
    fetched = fetch_file(Wanted(REPOSITORY, later.commit, NAME), file, lambda _: None)
    assert fetched.place.read_bytes() == remote.content
    assert not remote.hub.requests
    link = Path(constants.HF_HUB_CACHE) / "models--acme--tiny-gemma3" / "snapshots" / later.commit / NAME
    assert link.resolve() == fetched.place


def test_a_name_from_the_hub_cannot_lead_out_of_the_cache(hub: Hub, cache: Path) -> None:
    """An ETag that is a path is no name for a file: the digest is."""
    content = b'{"model_type": "gemma3"}'
    hub.push(REPOSITORY, {"config.json": content})
    repository = list_repository(REPOSITORY, "main")
    headers = {"X-Repo-Commit": repository.commit, "ETag": '"../../../../escaped"'}
    hub.faults = [("/acme/", faults.refused(200, headers, content))]
    (file,) = repository.files
    fetched = fetch_file(Wanted(REPOSITORY, repository.commit, "config.json"), file, lambda _: None)
    assert fetched.place == cache / "models--acme--tiny-gemma3" / "blobs" / file.digest
    assert not list(cache.parent.rglob("escaped"))


def test_a_crowd_that_fetches_the_same_file_shares_one_download(remote: Remote) -> None:
    """Who comes while another fetches waits for that one, and asks the hub for nothing."""
    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(lambda _: remote.fetch(), range(4)))
    assert {fetched.place for fetched in done} == {done[0].place}
    assert done[0].place.read_bytes() == remote.content
    assert remote.ranges() == [None]
