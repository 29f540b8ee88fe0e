"""The remote cache over nginx, with the configuration that the guide shows."""

from __future__ import annotations

from pathlib import Path

import pytest
from remote.samples import CONTENT, DIGEST, KEY, RESULT, Opener, files_of, hearing
from remote.servers import Nginx

from maxbuild.engine import Digest, TaskKey, hash_bytes
from maxbuild.engine.remote import RemoteOutput, RemoteResult
from maxbuild.engine.remote.transfer import EMPTY

NOBODY: dict[str, str] = {}
MAIN = {"MAXBUILD_REMOTE_USER": "builder", "MAXBUILD_REMOTE_PASSWORD": "main-secret"}
PR = {"MAXBUILD_REMOTE_USER": "builder", "MAXBUILD_REMOTE_PASSWORD": "pr-secret"}
NUMBERS = iter(range(1, 1000))


@pytest.fixture
def instance() -> str:
    """Return an instance that no other test uses."""
    return f"pr-{next(NUMBERS)}"


def test_what_one_builder_publishes_another_finds(
    running_nginx: Nginx, instance: str, tmp_path: Path, opened: Opener
) -> None:
    """A result comes back as it went, with blobs of every size, the empty one and outputs in folders among them."""
    large = bytes(range(256)) * 20_000
    contents = {"region.pt2": CONTENT, "weights": large, "empty": b""}
    blobs = files_of(tmp_path, contents)
    outputs = {f"family/{name}": RemoteOutput(hash_bytes(content), len(content)) for name, content in contents.items()}
    result = RemoteResult({**outputs, "again": RemoteOutput(DIGEST, len(CONTENT))}, 3.25)

    writer = opened(running_nginx.url, instance=instance, write=True, environ=PR)
    assert writer.publish(KEY, result, blobs)
    assert writer.statistics().stored_bytes == len(CONTENT) + len(large)

    reader = opened(running_nginx.url, instance=instance, environ=NOBODY)
    assert reader.find(KEY) == result
    for name, output in outputs.items():
        destination = tmp_path / f"fetched-{Path(name).name}"
        assert reader.fetch(output.digest, output.size, destination)
        assert destination.read_bytes() == contents[Path(name).name]
    assert reader.statistics().fetched_bytes == len(CONTENT) + len(large)
    assert (reader.statistics().hits, reader.statistics().misses, reader.statistics().trouble) == (1, 0, None)


def test_what_lies_at_the_server_is_as_the_guide_says(
    running_nginx: Nginx, instance: str, tmp_path: Path, opened: Opener
) -> None:
    """Blobs lie under their digests as they are, results under their keys as JSON of the Remote Execution API."""
    remote = opened(running_nginx.url, instance=instance, write=True, environ=PR)
    assert remote.publish(KEY, RESULT, files_of(tmp_path, {"region.pt2": CONTENT}))
    folder = running_nginx.content / instance
    assert (folder / "cas" / DIGEST).read_bytes() == CONTENT
    assert (folder / "ac" / KEY).read_text() == (
        '{"executionMetadata":{"executionCompletedTimestamp":"1970-01-01T00:00:12.500000Z",'
        '"executionStartTimestamp":"1970-01-01T00:00:00.000000Z","worker":"maxbuild"},"exitCode":0,'
        f'"outputFiles":[{{"digest":{{"hash":"{DIGEST}","sizeBytes":"1600"}},"path":"region.pt2"}}]}}'
    )
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == sorted([DIGEST, KEY])


def test_a_blob_that_is_there_is_not_sent_again(
    running_nginx: Nginx, instance: str, tmp_path: Path, opened: Opener
) -> None:
    """A second builder sends no byte of a blob that the remote holds whole, and mends one that is cut short."""
    path = files_of(tmp_path, {"region.pt2": CONTENT})[DIGEST]
    for sent in (len(CONTENT), 0):
        remote = opened(running_nginx.url, instance=instance, write=True, environ=PR)
        assert remote.store_blob(DIGEST, path)
        assert remote.store_blob(DIGEST, path)
        assert remote.has(DIGEST)
        assert remote.statistics().stored_bytes == sent
    there = running_nginx.content / instance / "cas" / DIGEST
    there.write_bytes(CONTENT[:-1])
    assert opened(running_nginx.url, instance=instance, write=True, environ=PR).store_blob(DIGEST, path)
    assert there.read_bytes() == CONTENT


def test_a_lost_blob_is_a_miss(running_nginx: Nginx, instance: str, tmp_path: Path, opened: Opener) -> None:
    """A result whose blob the server has dropped costs the fetch of that blob, and no word."""
    remote = opened(running_nginx.url, instance=instance, write=True, environ=PR)
    assert remote.publish(KEY, RESULT, files_of(tmp_path, {"region.pt2": CONTENT}))
    (running_nginx.content / instance / "cas" / DIGEST).unlink()
    assert remote.find(KEY) == RESULT
    assert not remote.fetch(DIGEST, len(CONTENT), tmp_path / "fetched")
    assert not (tmp_path / "fetched").exists()
    assert remote.statistics().trouble is None


def test_a_damaged_blob_is_refused(running_nginx: Nginx, instance: str, tmp_path: Path, opened: Opener) -> None:
    """A blob that rotted on the server's disk is no blob."""
    remote = opened(running_nginx.url, instance=instance, write=True, environ=PR)
    assert remote.publish(KEY, RESULT, files_of(tmp_path, {"region.pt2": CONTENT}))
    (running_nginx.content / instance / "cas" / DIGEST).write_bytes(CONTENT[:-1] + b"!")
    with hearing() as heard:
        assert not remote.fetch(DIGEST, len(CONTENT), tmp_path / "fetched")
    assert len(heard.texts) == 1
    assert not (tmp_path / "fetched").exists()


def test_instances_and_keys_are_separate(running_nginx: Nginx, instance: str, tmp_path: Path, opened: Opener) -> None:
    """What is published under one instance and key is found under no other."""
    writer = opened(running_nginx.url, instance=instance, write=True, environ=PR)
    assert writer.publish(KEY, RESULT, files_of(tmp_path, {"region.pt2": CONTENT}))
    assert opened(running_nginx.url, instance=instance).find(TaskKey("b" * 64)) is None
    for other in ("main", f"{instance}0"):
        remote = opened(running_nginx.url, instance=other)
        assert remote.find(KEY) is None
        assert not remote.has(DIGEST)


@pytest.mark.parametrize(
    ("environ", "instance_name"),
    [(PR, "main"), (MAIN, "pr-7"), ({"MAXBUILD_REMOTE_TOKEN": "main-secret"}, "main")],
)
def test_a_credential_writes_its_own_instance_alone(
    environ: dict[str, str], instance_name: str, running_nginx: Nginx, tmp_path: Path, opened: Opener
) -> None:
    """The credential of proposed changes cannot write `main`, nor the other way round: one warning, nothing written."""
    remote = opened(running_nginx.url, instance=instance_name, write=True, environ=environ)
    with hearing() as heard:
        assert not remote.publish(KEY, RESULT, files_of(tmp_path, {"region.pt2": CONTENT}))
    assert heard.texts == [
        f"the remote cache at {running_nginx.url}/{instance_name} answered 401 (it wants a credential that it knows:"
        f" see MAXBUILD_REMOTE_TOKEN) (sending cas/{DIGEST}); the build goes on and sends it nothing more"
    ]
    assert not (running_nginx.content / instance_name / "cas" / DIGEST).exists()


def test_main_is_written_with_its_own_credential(running_nginx: Nginx, tmp_path: Path, opened: Opener) -> None:
    """The credential of protected branches writes `main`, and everybody finds it there."""
    content = b"of a protected branch"
    key, result = TaskKey("c" * 64), RemoteResult({"out": RemoteOutput(hash_bytes(content), len(content))}, 0.0)
    writer = opened(running_nginx.url, write=True, environ=MAIN)
    assert writer.publish(key, result, files_of(tmp_path, {"out": content}))
    assert opened(running_nginx.url, environ=NOBODY).find(key) == result


def test_reading_is_all_that_happens_unasked(
    running_nginx: Nginx, instance: str, tmp_path: Path, opened: Opener
) -> None:
    """Without `write`, a credential in the environment sends nothing."""
    remote = opened(running_nginx.url, instance=instance, environ=PR)
    assert not remote.writable
    assert not remote.publish(KEY, RESULT, files_of(tmp_path, {"region.pt2": CONTENT}))
    assert not remote.store_blob(DIGEST, tmp_path / "region.pt2")
    assert not (running_nginx.content / instance).exists()


def test_a_local_blob_that_is_damaged_does_not_arrive(
    running_nginx: Nginx, instance: str, tmp_path: Path, opened: Opener
) -> None:
    """A file that is not what its digest says, or is gone, is not sent; its result is not either."""
    remote = opened(running_nginx.url, instance=instance, write=True, environ=PR)
    large = b"x" * 3_000_000
    path = tmp_path / "damaged"
    for damaged in (CONTENT[:-1] + b"!", CONTENT[:-1], CONTENT + b"!", b"", large):
        path.write_bytes(damaged)
        assert not remote.publish(KEY, RESULT, {DIGEST: path})
    path.unlink()
    assert not remote.publish(KEY, RESULT, {DIGEST: path})
    assert list((running_nginx.content / instance).rglob("*/[0-9a-f]*")) == []
    assert remote.statistics().trouble is None


def test_a_result_goes_only_where_its_blobs_are(
    running_nginx: Nginx, instance: str, tmp_path: Path, opened: Opener
) -> None:
    """A result without the file of a blob is sent when the remote holds that blob, and not before."""
    remote = opened(running_nginx.url, instance=instance, write=True, environ=PR)
    blobs = files_of(tmp_path, {"region.pt2": CONTENT})
    assert not remote.publish(KEY, RESULT, {})
    assert remote.find(KEY) is None
    assert remote.store_blob(DIGEST, blobs[DIGEST])
    assert remote.publish(KEY, RESULT, {})
    assert remote.find(KEY) == RESULT


@pytest.mark.parametrize(
    "result",
    [
        RemoteResult({}, 1.0),
        RemoteResult({"../region": RemoteOutput(DIGEST, len(CONTENT))}, 1.0),
        RemoteResult({"region\n": RemoteOutput(DIGEST, len(CONTENT))}, 1.0),
        RemoteResult({"region": RemoteOutput(DIGEST, 0)}, 1.0),
        RemoteResult({"region": RemoteOutput(EMPTY, 1)}, 1.0),
        RemoteResult({"region": RemoteOutput(DIGEST, len(CONTENT))}, -1.0),
        RemoteResult({"region": RemoteOutput(DIGEST, len(CONTENT) + 1)}, 1.0),
    ],
)
def test_a_result_that_no_reader_would_take_is_not_sent(
    result: RemoteResult, running_nginx: Nginx, instance: str, tmp_path: Path, opened: Opener
) -> None:
    """What readers refuse as a lie is never written by us, a size that the blob does not have among it."""
    remote = opened(running_nginx.url, instance=instance, write=True, environ=PR)
    assert not remote.publish(KEY, result, files_of(tmp_path, {"region.pt2": CONTENT}))
    assert remote.find(KEY) is None


def test_the_server_takes_nothing_but_results_and_blobs(running_nginx: Nginx, instance: str, opened: Opener) -> None:
    """The configuration of the guide serves keys and digests of the two kinds of instances, and nothing else."""
    import httpx2

    digest = Digest("c" * 64)
    for path in ("main/other", "main/cas/short", f"elsewhere/cas/{digest}", f"main/cas/{digest}/more", ".uploads/1"):
        for builder in ("main-secret", "pr-secret"):
            answer = httpx2.put(f"{running_nginx.url}/{path}", content=b"x", auth=("builder", builder))
            assert answer.status_code in {404, 405}
    answer = httpx2.delete(f"{running_nginx.url}/main/cas/{digest}", auth=("builder", "main-secret"))
    assert answer.status_code in {404, 405}
