"""Downloads: what comes out is what was expected, and what was not is not left to be believed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hub_world import MODEL, REPOSITORY, TOKEN, download_file
from huggingface_hub import hf_hub_download
from server import Hub, Refusal, sha256

from maxbuild.engine import Deferred, Kind, Reason, Report, Result, State, Store, Task, execute
from maxbuild.errors import MaxbuildError, StoreError, TaskFailed, render
from maxbuild.hub import list_repository
from maxbuild.manifest import Manifest
from maxbuild.plan import KINDS, make_plan
from maxbuild.steps.download import download_task

WEIGHTS = "model.safetensors"
SMALL = {"config.json": b'{"model_type": "gemma3"}', WEIGHTS: bytes(range(256)) * 1000}


def test_every_file_arrives_in_the_hub_cache(hub: Hub, cache: Path, tmp_path: Path) -> None:
    """The blob of the standard cache is the result, byte for byte, and other programs find it there."""
    commit = hub.push(REPOSITORY, MODEL)
    repository = list_repository(REPOSITORY, "main")
    for file in repository.files:
        heard: list[tuple[int, int | None]] = []

        def hear(done: int, total: int | None, heard: list[tuple[int, int | None]] = heard) -> None:
            heard.append((done, total))

        path = download_file(repository, file.path, tmp_path, hear)
        assert path.read_bytes() == (MODEL / file.path).read_bytes()
        assert path.parent == cache / "models--acme--tiny-gemma3" / "blobs"
        assert heard[0][1] == heard[-1][0] == file.size
    assert hf_hub_download(REPOSITORY, WEIGHTS, revision=commit, local_files_only=True)


def test_a_file_that_is_there_is_not_downloaded(hub: Hub, tmp_path: Path) -> None:
    """What another program downloaded is used, and the hub is not asked."""
    commit = hub.push(REPOSITORY, SMALL)
    repository = list_repository(REPOSITORY, "main")
    hf_hub_download(REPOSITORY, WEIGHTS, revision=commit)
    hub.requests.clear()
    download_file(repository, WEIGHTS, tmp_path)
    assert not hub.requests


def test_a_token_does_not_go_to_where_large_files_lie(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub is shown the token, the origin of large files is not."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.push(REPOSITORY, SMALL)
    repository = list_repository(REPOSITORY, "main")
    download_file(repository, WEIGHTS, tmp_path)
    tokens = {request.path.split("/")[1]: request.authorization for request in hub.asked()}
    assert tokens == {"api": f"Bearer {TOKEN}", "acme": f"Bearer {TOKEN}", "large": None}


@pytest.mark.parametrize("name", ["config.json", WEIGHTS])
def test_wrong_bytes_are_refused_and_do_not_stay(hub: Hub, cache: Path, tmp_path: Path, name: str) -> None:
    """What a hub sends wrong, twice, is an error, and nothing of it stays in the cache."""
    hub.push(REPOSITORY, SMALL)
    repository = list_repository(REPOSITORY, "main")
    hub.wrong[name] = SMALL[name][:-1] + b"X"
    with pytest.raises(TaskFailed) as caught:
        download_file(repository, name, tmp_path)
    text = render(caught.value)
    assert f"`{name}` of `{REPOSITORY}` at `{repository.commit}` is not what the lock expects" in text
    assert "it was downloaded a second time" in text
    assert not list(cache.rglob(name))
    assert list((cache / "models--acme--tiny-gemma3" / "blobs").iterdir()) == []


def test_bytes_that_are_wrong_once_are_made_good(hub: Hub, tmp_path: Path) -> None:
    """The second download replaces what the first one left."""
    hub.push(REPOSITORY, SMALL)
    repository = list_repository(REPOSITORY, "main")
    hub.wrong, hub.wrong_times = {WEIGHTS: bytes(len(SMALL[WEIGHTS]))}, 1
    assert download_file(repository, WEIGHTS, tmp_path).read_bytes() == SMALL[WEIGHTS]


def test_a_damaged_cache_is_made_good(hub: Hub, tmp_path: Path) -> None:
    """A blob that rotted in the cache is downloaded anew."""
    commit = hub.push(REPOSITORY, SMALL)
    repository = list_repository(REPOSITORY, "main")
    Path(hf_hub_download(REPOSITORY, WEIGHTS, revision=commit)).resolve().write_bytes(b"rotten")
    assert download_file(repository, WEIGHTS, tmp_path).read_bytes() == SMALL[WEIGHTS]


def test_a_damaged_cache_without_a_hub_is_emptied_of_it(
    hub: Hub, cache: Path, tmp_path: Path, offline: Callable[[], None]
) -> None:
    """Offline, and where the hub fails, damaged content is removed and the message says so."""
    commit = hub.push(REPOSITORY, SMALL)
    repository = list_repository(REPOSITORY, "main")
    damaged = "was damaged and has been removed"
    Path(hf_hub_download(REPOSITORY, WEIGHTS, revision=commit)).resolve().write_bytes(b"rotten")
    hub.refusals["/acme/"] = Refusal(500)
    with pytest.raises(MaxbuildError, match="the hub failed to answer") as caught:
        download_file(repository, WEIGHTS, tmp_path)
    assert damaged in caught.value.causes[-1]
    hub.refusals.clear()
    Path(hf_hub_download(REPOSITORY, WEIGHTS, revision=commit)).resolve().write_bytes(b"rotten")
    offline()
    with pytest.raises(TaskFailed, match="is not what the lock expects") as failed:
        download_file(repository, WEIGHTS, tmp_path)
    assert damaged in failed.value.causes[-1]
    assert not list(cache.rglob(WEIGHTS))


def test_content_that_the_hub_stands_by_stays(hub: Hub, cache: Path, tmp_path: Path) -> None:
    """Where the lock alone is wrong, nothing is removed from the cache that others use."""
    hub.push(REPOSITORY, SMALL)
    repository = list_repository(REPOSITORY, "main")
    with pytest.raises(TaskFailed) as caught:
        download_file(repository, WEIGHTS, tmp_path, digest="0" * 64)
    assert "the hub says that this commit holds it" in render(caught.value)
    assert [request.method for request in hub.requests if request.path.startswith("/large/")] == ["GET"]
    assert not list(cache.rglob("*.incomplete"))
    place = Path(hf_hub_download(REPOSITORY, WEIGHTS, revision=repository.commit))
    with pytest.raises(TaskFailed):
        download_file(repository, WEIGHTS, tmp_path, digest="0" * 64)
    assert place.read_bytes() == SMALL[WEIGHTS]


@pytest.mark.parametrize(
    ("start", "refusal", "message"),
    [
        ("/acme/", Refusal(401, "GatedRepo", "restricted"), "it is gated"),
        ("/acme/", Refusal(404, "RepoNotFound"), "no repository"),
        ("/acme/", Refusal(404, "RevisionNotFound"), "has no revision"),
        ("/acme/", Refusal(404, "EntryNotFound"), "the hub has no `model.safetensors`"),
        ("/acme/", Refusal(403), "no access to `model.safetensors`"),
        ("/acme/", Refusal(500), "the hub failed to answer"),
        ("/large/", Refusal(403), "no access to `model.safetensors`"),
        ("/large/", Refusal(500), "the hub failed to answer"),
        ("/acme/", Refusal(200), "is not a hub"),
    ],
)
def test_each_refusal_of_a_file_has_its_message(
    *, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str, refusal: Refusal, message: str
) -> None:
    """What refuses a file is told apart, and neither a token nor a signed address is shown."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.push(REPOSITORY, SMALL)
    repository = list_repository(REPOSITORY, "main")
    hub.refusals[start] = refusal
    with pytest.raises(MaxbuildError) as caught:
        download_file(repository, WEIGHTS, tmp_path)
    assert message in caught.value.message
    assert "secret" not in render(caught.value)
    assert TOKEN not in render(caught.value)


def test_offline_a_file_that_is_not_there_is_named(hub: Hub, tmp_path: Path, offline: Callable[[], None]) -> None:
    """The message names the file and the command that brings it."""
    hub.push(REPOSITORY, SMALL)
    repository = list_repository(REPOSITORY, "main")
    offline()
    with pytest.raises(MaxbuildError, match=r"the hub cache lacks `model.safetensors`") as caught:
        download_file(repository, WEIGHTS, tmp_path)
    assert f"hf download {REPOSITORY} {WEIGHTS} --revision {repository.commit}" in render(caught.value)


def test_a_full_disk_is_the_disks_error(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC while downloading exits with 4 and names the hub cache, not the store."""
    hub.push(REPOSITORY, SMALL)
    repository = list_repository(REPOSITORY, "main")

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("maxbuild.hub.partial.os.fsync", fail)
    with pytest.raises(StoreError, match="No space left") as caught:
        download_file(repository, WEIGHTS, tmp_path)
    assert "HF_HOME" in (caught.value.hint or "")


class Downloads:
    """A plan that downloads every file of a repository."""

    def __init__(self, *tasks: Task) -> None:
        """Plan `tasks`."""
        self.tasks = tasks

    def grow(self, _: object) -> tuple[Task, ...]:
        """Add nothing."""
        return ()

    def deferred(self, _: object) -> tuple[Deferred, ...]:
        """Hold nothing back."""
        return ()


def test_the_store_refers_to_the_hub_cache(hub: Hub, cache: Path, tmp_path: Path) -> None:
    """The engine copies no byte, downloads once, and again when the cache was emptied."""
    hub.push(REPOSITORY, SMALL)
    repository = list_repository(REPOSITORY, "main")
    plan = Downloads(*(download_task(repository, file, "main") for file in repository.files))
    kinds = {"download": Kind("download", "maxbuild.steps.download:run", isolated=False)}
    with Store(tmp_path / "store") as store:

        def build() -> tuple[Report, list[State]]:
            report = execute(plan, store, kinds, scope="test", jobs=2, on_event=lambda _: None)
            return report, [task.state for task in report.tasks]

        report, states = build()
        assert states == [State.BUILT, State.BUILT]
        result: Result = report.results[f"download main/{WEIGHTS}"]
        place = store.blob_path(result.outputs["file"])
        assert place is not None
        assert place.is_relative_to(cache)
        assert result.outputs["file"] == sha256(SMALL[WEIGHTS])
        hub.requests.clear()
        assert build()[1] == [State.CACHED, State.CACHED]
        assert not hub.requests
        place.unlink()
        assert sorted(build()[1]) == sorted([State.BUILT, State.CACHED])


def test_the_environment_is_honoured(hub: Hub, tmp_path: Path) -> None:
    """HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE of a process mean what they mean everywhere."""
    commit = hub.push(REPOSITORY, SMALL)
    program = (
        "import pathlib, sys; from maxbuild.hub import list_repository; from maxbuild.steps.download import *\n"
        "repository = list_repository(sys.argv[1], sys.argv[2])\n"
        "for file in repository.files:\n"
        "    task = download_task(repository, file, 'main')\n"
        "    print(run(Job(task.params, {}, pathlib.Path(), lambda *_: None, task.local))['file'])"
    )
    home = tmp_path / "home"
    environment = {
        "PATH": os.environ["PATH"],
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(home),
        "HF_TOKEN": TOKEN,
        "DO_NOT_TRACK": "1",
    }
    for offline in ("0", "1"):
        hub.requests.clear()
        done = subprocess.run(
            [sys.executable, "-c", program, REPOSITORY, commit],
            env={**environment, "HF_HUB_OFFLINE": offline},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert len(done.stdout.splitlines()) == len(SMALL)
        assert done.stdout.startswith(str(home / "hub"))
        assert bool(hub.requests) is (offline == "0")
        assert all(request.authorization for request in hub.requests if "large" not in request.path)


def test_force_download_downloads_again_and_changes_nothing(
    hub: Hub, tmp_path: Path, write_manifest: Callable[..., Manifest]
) -> None:
    """Every build downloads what is there already, as forced; keys and results are those of a build that does not."""
    hub.push(REPOSITORY, MODEL)

    def build(force: str) -> Report:
        plan = make_plan(write_manifest(force_download=force), pin=False)
        downloads = [task.name for task in plan.tasks if task.kind == "download"]
        hub.requests.clear()
        with Store(tmp_path / "store") as store:
            return execute(plan, store, KINDS, scope="test", jobs=1, only=downloads)

    def fetched() -> int:
        return sum(request.path.startswith("/large/") for request in hub.requests)

    first = build("false")
    assert fetched() == 1
    for _ in range(2):
        again = build("true")
        assert {task.state for task in again.tasks} == {State.BUILT}
        assert {cause.reason for task in again.tasks for cause in task.explanations} == {Reason.FORCED}
        assert fetched() == 1
        assert again.results == first.results
        assert {task.key for task in again.tasks} == {task.key for task in first.tasks}
    assert {task.state for task in build("false").tasks} == {State.CACHED}
    assert fetched() == 0


def test_what_passed_is_not_read_again(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The digest that was made of the bytes as they came is the one that the store believes; no file is read for it."""
    hub.push(REPOSITORY, SMALL)
    repository = list_repository(REPOSITORY, "main")
    plan = Downloads(*(download_task(repository, file, "main") for file in repository.files))
    read: list[object] = []
    for reader in ("maxbuild.engine.memo.hash_file", "maxbuild.hub.transfer.read_content"):
        monkeypatch.setattr(reader, lambda *args, **_: read.append(args))
    with Store(tmp_path / "store") as store:
        report = execute(plan, store, KINDS, scope="test", jobs=1)
    assert report.results[f"download main/{WEIGHTS}"].outputs["file"] == sha256(SMALL[WEIGHTS])
    assert report.results["download main/config.json"].outputs["file"] == sha256(SMALL["config.json"])
    assert read == []


def test_what_was_there_is_read_once(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another program downloaded is hashed by the step, and by nobody else."""
    commit = hub.push(REPOSITORY, SMALL)
    repository = list_repository(REPOSITORY, "main")
    for name in SMALL:
        hf_hub_download(REPOSITORY, name, revision=commit)
    plan = Downloads(*(download_task(repository, file, "main") for file in repository.files))
    read: list[object] = []
    monkeypatch.setattr("maxbuild.engine.memo.hash_file", read.append)
    with Store(tmp_path / "store") as store:
        report = execute(plan, store, KINDS, scope="test", jobs=1)
    assert report.results[f"download main/{WEIGHTS}"].outputs["file"] == sha256(SMALL[WEIGHTS])
    assert read == []
