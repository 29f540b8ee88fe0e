"""The near side of a remote cache: memory stays flat whatever the size of blobs, and a failing disk is a StoreError."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from remote.samples import CONTENT, DIGEST, KEY, Opener, files_no_larger_than, hearing
from remote.servers import Nginx, Server

from maxbuild.engine import disk, hash_bytes, hash_file
from maxbuild.errors import StoreError

LARGE = 300 * 1024 * 1024
_ROOM = 24 * 1024  # KiB that a large blob may take beyond a small one

_CHILD = """
import os, resource, sys
from pathlib import Path
from maxbuild.engine import Digest
from maxbuild.engine.remote import open_remote

url, folder = sys.argv[1], Path(sys.argv[2])
remote = open_remote(url, instance="pr-300", write=True, environ=os.environ)
for name, digest in (("small", sys.argv[3]), ("large", sys.argv[4])):
    blob = folder / name
    assert remote.store_blob(Digest(digest), blob)
    assert remote.fetch(Digest(digest), blob.stat().st_size, folder / f"fetched-{name}")
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_blobs(running_nginx: Nginx, tmp_path: Path) -> None:
    """Sending and fetching 300 MiB takes no more memory than 2 MiB do."""
    digests = []
    for name, size in (("small", LARGE // 150), ("large", LARGE)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
        digests.append(hash_file(tmp_path / name))
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, running_nginx.url, str(tmp_path), *digests],
        env={**os.environ, "MAXBUILD_REMOTE_USER": "builder", "MAXBUILD_REMOTE_PASSWORD": "pr-secret"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert hash_file(tmp_path / "fetched-large") == digests[1]
    for path in (tmp_path / "fetched-large", running_nginx.content / "pr-300" / "cas" / digests[1]):
        path.unlink()
    small, large = (int(line) for line in done.stdout.split())
    assert large - small < _ROOM


def test_a_disk_that_fails_amid_a_blob_is_a_store_error(server: Server, tmp_path: Path, opened: Opener) -> None:
    """A blob that cannot be written is never a miss: the build ends with the disk's error, and no file is left."""
    server.content[f"/main/cas/{DIGEST}"] = CONTENT
    remote = opened(server.url)
    with files_no_larger_than(1000), pytest.raises(StoreError) as failure:
        remote.fetch(DIGEST, len(CONTENT), tmp_path / "blob")
    assert failure.value.message == f"could not write `{tmp_path / 'blob'}`"
    assert list(tmp_path.iterdir()) == []
    assert remote.fetch(DIGEST, len(CONTENT), tmp_path / "blob")
    assert remote.statistics().trouble is None


def test_a_full_disk_says_what_is_needed(
    server: Server, tmp_path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full is told with the bytes that the blob needs."""
    server.content[f"/main/cas/{DIGEST}"] = CONTENT

    def full(name: str, path: Path) -> None:
        if name == "write":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(disk, "before_effect", full)
    with pytest.raises(StoreError) as failure:
        opened(server.url).fetch(DIGEST, len(CONTENT), tmp_path / "blob")
    assert failure.value.causes[1].startswith("needs 1600 bytes, ")
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_taken_is_a_store_error_and_stays(server: Server, tmp_path: Path, opened: Opener) -> None:
    """Nothing that exists is overwritten, or removed for being in the way."""
    server.content[f"/main/cas/{DIGEST}"] = CONTENT
    (tmp_path / "blob").write_text("somebody else's")
    with pytest.raises(StoreError):
        opened(server.url).fetch(DIGEST, len(CONTENT), tmp_path / "blob")
    assert (tmp_path / "blob").read_text() == "somebody else's"


def test_a_blob_that_cannot_be_read_is_a_store_error(server: Server, tmp_path: Path, opened: Opener) -> None:
    """A local disk that fails while a blob is sent is no trouble of the remote, and nothing arrives."""
    remote = opened(server.url, write=True)
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError) as failure:
        remote.store_blob(DIGEST, tmp_path / "folder")
    assert failure.value.message == f"could not read `{tmp_path / 'folder'}`"
    assert server.content == {}
    assert remote.writable


def test_the_empty_blob_needs_no_remote(tmp_path: Path, opened: Opener) -> None:
    """The blob of no bytes is always there, as the Remote Execution API has it."""
    remote = opened("http://127.0.0.1:9", write=True)
    empty = hash_bytes(b"")
    assert remote.has(empty)
    assert remote.store_blob(empty, tmp_path / "nowhere")
    assert remote.fetch(empty, 0, tmp_path / "blob")
    assert (tmp_path / "blob").read_bytes() == b""


def test_an_empty_file_is_not_sent_for_another(server: Server, tmp_path: Path, opened: Opener) -> None:
    """An empty file in the place of a blob never arrives: a body of no bytes is whole before it is looked at."""
    (tmp_path / "blob").touch()
    assert not opened(server.url, write=True).store_blob(DIGEST, tmp_path / "blob")
    assert server.content == {}


def test_what_a_hung_up_client_sent_is_not_kept(server: Server, tmp_path: Path, opened: Opener) -> None:
    """A blob that proves wrong at its end is never whole at the server, and the remote is not blamed."""
    (tmp_path / "blob").write_bytes(b"x" * 5_000_000)
    remote = opened(server.url, write=True)
    with hearing() as heard:
        assert not remote.store_blob(DIGEST, tmp_path / "blob")
    assert heard.texts == []
    assert server.content == {}
    assert remote.find(KEY) is None
    assert remote.statistics().misses == 1
