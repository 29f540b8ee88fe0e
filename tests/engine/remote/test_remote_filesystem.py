"""The remote cache over fsspec: a folder, and an object store that speaks S3 on this host."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
from remote.samples import CONTENT, DIGEST, KEY, RESULT, Opener, files_no_larger_than, files_of, hearing
from remote.servers import free_port, required

from maxbuild.engine import TaskKey, hash_bytes
from maxbuild.engine.remote import RemoteOutput, RemoteResult

LARGE = bytes(range(256)) * 80_000  # 20 MB: several parts of an upload

_STARTING = 60


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a server of S3 with an empty bucket `cache`."""
    required(find_spec("s3fs"), "no s3fs here: pip install -e '.[s3]'")
    required(find_spec("moto") and find_spec("flask"), "no server of S3 here: pip install 'moto[server]'")
    port = free_port()
    log = tmp_path_factory.mktemp("s3") / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=file, stderr=file
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + _STARTING
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            with suppress(OSError):
                urllib.request.urlopen(urllib.request.Request(f"{url}/cache", method="PUT")).close()
                break
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def bucket(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the address of a folder of the bucket that no other test uses."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return f"s3://cache/{tmp_path.name}"


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the address of an empty store."""
    return f"file://{tmp_path}/store" if request.param == "file" else str(request.getfixturevalue("bucket"))


def put(store: str, place: str, content: bytes) -> None:
    """Write what lies at a place of a store, behind the back of any remote."""
    import fsspec

    files, root = fsspec.core.url_to_fs(
        store, skip_instance_cache=True, **({"auto_mkdir": True} if store[0] == "f" else {})
    )
    files.pipe_file(f"{root}/{place}", content)


def test_what_one_builder_publishes_another_finds(store: str, tmp_path: Path, opened: Opener) -> None:
    """A result comes back as it went, under its instance and key alone, with small and large blobs."""
    contents = {"region.pt2": CONTENT, "weights": LARGE, "empty": b""}
    blobs = files_of(tmp_path, contents)
    outputs = {name: RemoteOutput(hash_bytes(content), len(content)) for name, content in contents.items()}
    result = RemoteResult(outputs, 3.25)
    writer = opened(store, write=True)
    assert writer.publish(KEY, result, blobs)
    assert writer.publish(KEY, result, blobs)
    assert writer.statistics().stored_bytes == len(CONTENT) + len(LARGE)
    reader = opened(f"{store}/")
    assert reader.find(KEY) == result
    for name, output in outputs.items():
        assert reader.fetch(output.digest, output.size, tmp_path / f"fetched-{name}")
        assert (tmp_path / f"fetched-{name}").read_bytes() == contents[name]
    assert reader.has(hash_bytes(LARGE))
    assert reader.find(TaskKey("b" * 64)) is None
    assert opened(store, instance="pr-1").find(KEY) is None
    assert not opened(store, instance="pr-1").fetch(DIGEST, len(CONTENT), tmp_path / "fetched")
    assert not (tmp_path / "fetched").exists()
    assert reader.statistics().trouble is None


def test_a_store_is_read_only_unless_asked(store: str, tmp_path: Path, opened: Opener) -> None:
    """Without `write` nothing is sent."""
    remote = opened(store)
    assert not remote.publish(KEY, RESULT, files_of(tmp_path, {"region.pt2": CONTENT}))
    assert not opened(store).has(DIGEST)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (CONTENT[:-1] + b"!", "sent bytes that are not those of the digest"),
        (CONTENT[:-1], "sent 1599 of the 1600 bytes that were announced"),
        (CONTENT + b"!", "sent more than the 1600 bytes that were announced"),
    ],
)
def test_a_damaged_blob_is_refused(content: bytes, words: str, store: str, tmp_path: Path, opened: Opener) -> None:
    """Bytes that are not those of the digest leave no file; one warning, and the store is left alone."""
    put(store, f"main/cas/{DIGEST}", content)
    remote = opened(store, write=True)
    with hearing() as heard:
        assert not remote.fetch(DIGEST, len(CONTENT), tmp_path / "fetched")
        assert remote.find(KEY) is None
    assert heard.texts == [
        f"the remote cache at {store}/main {words} (asked for cas/{DIGEST}); the build goes on without it"
    ]
    assert not (tmp_path / "fetched").exists()
    assert not remote.writable


def test_a_result_that_is_none_is_refused(store: str, opened: Opener) -> None:
    """What is no action result is a lie here as anywhere."""
    put(store, f"main/ac/{KEY}", b"<html>")
    with hearing() as heard:
        assert opened(store).find(KEY) is None
    assert heard.texts == [
        f"the remote cache at {store}/main sent something else than an action result: not JSON (asked for ac/{KEY});"
        " the build goes on without it"
    ]


def test_a_local_blob_that_is_damaged_does_not_arrive(store: str, tmp_path: Path, opened: Opener) -> None:
    """A file that is not what its digest says is not sent, nor its result."""
    (tmp_path / "damaged").write_bytes(CONTENT[:-1] + b"!")
    remote = opened(store, write=True)
    assert not remote.publish(KEY, RESULT, {DIGEST: tmp_path / "damaged"})
    assert not remote.has(DIGEST)
    assert remote.find(KEY) is None


def test_a_folder_holds_whole_files_under_their_names_alone(tmp_path: Path, opened: Opener) -> None:
    """In a folder nothing is left beside blobs and results."""
    remote = opened(f"file://{tmp_path}/store", write=True)
    assert remote.publish(KEY, RESULT, files_of(tmp_path, {"region.pt2": CONTENT}))
    there = sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "store").rglob("*") if path.is_file())
    assert there == [f"store/main/ac/{KEY}", f"store/main/cas/{DIGEST}"]


def test_a_folder_holds_no_part_of_a_file(tmp_path: Path, opened: Opener) -> None:
    """A write that fails amid a blob leaves nothing of it, neither at its place nor beside."""
    blobs = files_of(tmp_path, {"region.pt2": CONTENT})
    remote = opened(f"file://{tmp_path}/store", write=True)
    with hearing() as heard, files_no_larger_than(1000):
        assert not remote.publish(KEY, RESULT, blobs)
    assert heard.texts == [
        f"the remote cache at file://{tmp_path}/store/main failed: File too large (sending cas/{DIGEST});"
        " the build goes on without it"
    ]
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []


def test_a_bucket_that_is_not_there_takes_nothing(bucket: str, tmp_path: Path, opened: Opener) -> None:
    """A bucket that is missing holds nothing, and an upload to it is refused with one warning."""
    remote = opened("s3://elsewhere", write=True)
    with hearing() as heard:
        assert remote.find(KEY) is None
        assert not remote.publish(KEY, RESULT, files_of(tmp_path, {"region.pt2": CONTENT}))
    assert len(heard.texts) == 1
    assert heard.texts[0].endswith(f"(sending cas/{DIGEST}); the build goes on and sends it nothing more")


def test_an_object_store_out_of_reach_is_one_warning(
    tmp_path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port that nobody listens at costs one warning, and no secret is in it."""
    required(find_spec("s3fs"), "no s3fs here: pip install -e '.[s3]'")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    remote = opened("s3://cache", write=True)
    with hearing() as heard:
        assert remote.find(KEY) is None
        assert not remote.fetch(DIGEST, len(CONTENT), tmp_path / "fetched")
        assert not remote.has(DIGEST)
    assert heard.texts == [
        f"the remote cache at s3://cache/main failed: EndpointConnectionError (asked for ac/{KEY});"
        " the build goes on without it"
    ]
    assert list(tmp_path.iterdir()) == []
