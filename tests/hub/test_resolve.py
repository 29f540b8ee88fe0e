"""Asking a hub: what it lists is locked, and each way of refusing has a message of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hub_world import MODEL, REPOSITORY, TOKEN
from huggingface_hub import constants, snapshot_download
from server import Hub, Refusal, git_oid, sha256

from maxbuild.errors import MaxbuildError, UsageError, render
from maxbuild.lock import read_lock, write_lock
from maxbuild.lock.file import lock_text, parse_lock
from maxbuild.manifest import Manifest
from maxbuild.resolve import resolve

WriteManifest = Callable[..., Manifest]


def resolve_fails(manifest: Manifest) -> MaxbuildError:
    """Return the error that resolving ends with; it shows no token."""
    with pytest.raises(MaxbuildError) as caught:
        resolve(manifest, None)
    assert TOKEN not in render(caught.value)
    assert "hf_other" not in render(caught.value)
    return caught.value


def test_the_lock_holds_commit_sizes_and_digests(hub: Hub, write_manifest: WriteManifest) -> None:
    """Large files are known by sha256, all others by git's digest."""
    commit = hub.push(REPOSITORY, MODEL)
    repository = resolve(write_manifest(), None).repositories[f"{REPOSITORY}@main"]
    assert repository.commit == commit
    assert not repository.partial
    assert {file.path: (file.size, file.digest) for file in repository.files} == {
        path.name: (
            path.stat().st_size,
            (sha256 if path.suffix == ".safetensors" else git_oid)(path.read_bytes()),
        )
        for path in MODEL.iterdir()
    }


def test_what_is_locked_opens_no_socket_and_follows_no_branch(
    hub: Hub, tmp_path: Path, write_manifest: WriteManifest
) -> None:
    """A second resolve of the lock file asks nobody, so a branch that moved is not followed."""
    commit = hub.push(REPOSITORY, {"config.json": b"{}"})
    write_lock(tmp_path / "gemma.lock", resolve(write_manifest(), None))
    hub.push(REPOSITORY, {"config.json": b"{ }"})
    hub.requests.clear()
    again = resolve(write_manifest(), read_lock(tmp_path / "gemma.lock"))
    assert again.repositories[f"{REPOSITORY}@main"].commit == commit
    assert not hub.requests


def test_what_is_locked_imports_no_network_library(hub: Hub, tmp_path: Path, write_manifest: WriteManifest) -> None:
    """A run with nothing missing imports neither huggingface_hub nor what it speaks HTTP with."""
    hub.push(REPOSITORY, {"config.json": b"{}"})
    manifest = write_manifest()
    write_lock(tmp_path / "gemma.lock", resolve(manifest, None))
    program = (
        "import sys, pathlib; from maxbuild.lock import *; from maxbuild.manifest import load_manifest\n"
        "from maxbuild.resolve import resolve\n"
        "from maxbuild.steps.download import download_task\n"
        "manifest = load_manifest(pathlib.Path(sys.argv[1]))\n"
        "lock = resolve(manifest, read_lock(lock_path(manifest.path)))\n"
        "repository, = lock.repositories.values()\n"
        "print(download_task(repository, repository.files[0], 'main').name)\n"
        "print([name for name in sys.modules if name.startswith(('huggingface', 'http', 'ssl', 'torch'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(manifest.path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "download main/config.json\n[]\n"


def test_a_revision_may_be_a_branch_with_a_slash(hub: Hub, write_manifest: WriteManifest) -> None:
    """Any name that git allows can be pinned."""
    commit = hub.push(REPOSITORY, {"config.json": b"{}"}, branch="feature/long")
    lock = resolve(write_manifest(huggingface_model_revision="feature/long"), None)
    assert lock.repositories[f"{REPOSITORY}@feature/long"].commit == commit
    assert parse_lock(lock_text(lock)) == lock


def test_the_token_goes_to_the_hub(hub: Hub, write_manifest: WriteManifest, monkeypatch: pytest.MonkeyPatch) -> None:
    """HF_TOKEN is what the hub is shown."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.push(REPOSITORY, {"config.json": b"{}"})
    resolve(write_manifest(), None)
    assert {request.authorization for request in hub.asked()} == {f"Bearer {TOKEN}"}


@pytest.mark.parametrize(
    ("refusal", "message", "hint"),
    [
        (Refusal(401, "RepoNotFound", "Invalid username or password."), "no repository `acme/tiny-gemma3`", "HF_TOKEN"),
        (Refusal(401, "GatedRepo", "Access is restricted"), "no access to `acme/tiny-gemma3`: it is gated", "HF_TOKEN"),
        (Refusal(403, "GatedRepo", "Not in the list"), "it is gated", "ask for access at http://127.0.0.1"),
        (Refusal(401, None, "Invalid credentials in Authorization header"), "wants to know who asks", "expired"),
        (
            Refusal(403, None, f"no right for {TOKEN} or hf_other"),
            "no access to `acme/tiny-gemma3` at `main`",
            "no right",
        ),
        (Refusal(403, None, "Access to this resource is disabled."), "is disabled", "another repository"),
        (Refusal(429), "was asked too often", "wait"),
        (Refusal(500), "the hub failed to answer for `acme/tiny-gemma3` at `main`", "run again later"),
        (Refusal(418), "the hub refused", "HF_ENDPOINT"),
        (Refusal(204), "is not a hub", "HF_ENDPOINT"),
    ],
)
def test_each_refusal_has_its_message(
    *,
    hub: Hub,
    write_manifest: WriteManifest,
    monkeypatch: pytest.MonkeyPatch,
    refusal: Refusal,
    message: str,
    hint: str,
) -> None:
    """A refusal is told apart from all others, with the way out and without the token."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.push(REPOSITORY, {"config.json": b"{}"})
    hub.refusals["/api/models/"] = refusal
    error = resolve_fails(write_manifest())
    assert message in error.message
    assert hint in (error.hint or "")


def test_what_is_not_there_is_a_mistake_in_the_manifest(hub: Hub, write_manifest: WriteManifest) -> None:
    """A repository or a revision that is not there is the user's to mend: exit code 2."""
    hub.push(REPOSITORY, {"config.json": b"{}"})
    error = resolve_fails(write_manifest("acme/nothing"))
    assert isinstance(error, UsageError)
    assert "no repository `acme/nothing`" in error.message
    error = resolve_fails(write_manifest(huggingface_model_revision="v9"))
    assert isinstance(error, UsageError)
    assert error.message == "`acme/tiny-gemma3` has no revision `v9`"


def test_a_hub_that_stumbles_is_asked_again(
    hub: Hub, write_manifest: WriteManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two failures of the server are waited out."""
    commit = hub.push(REPOSITORY, {"config.json": b"{}"})
    refusals = [Refusal(503), Refusal(502)]
    monkeypatch.setattr(hub, "refusal", lambda _: refusals.pop() if refusals else None)
    assert resolve(write_manifest(), None).repositories[f"{REPOSITORY}@main"].commit == commit


def test_a_hub_out_of_reach_is_named(hub: Hub, write_manifest: WriteManifest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address is shown, without the password that may stand in it."""
    monkeypatch.setattr(constants, "ENDPOINT", "http://user:" + TOKEN + "@127.0.0.1:1")
    error = resolve_fails(write_manifest())
    assert error.message == "could not reach the hub for `acme/tiny-gemma3` at `main`"
    assert error.causes[0].startswith("http://127.0.0.1:1: ")


def test_a_listing_that_leaves_the_repository_is_refused(hub: Hub, write_manifest: WriteManifest) -> None:
    """A path with `..` in it is never locked."""
    hub.push(REPOSITORY, {"../../.bashrc": b"{}"})
    assert "in a way that cannot be used" in resolve_fails(write_manifest()).message


def test_offline_the_cache_answers(
    hub: Hub, cache: Path, write_manifest: WriteManifest, offline: Callable[[], None]
) -> None:
    """A snapshot that another program downloaded gives the lock that the hub would have given."""
    hub.push(REPOSITORY, MODEL)
    online = resolve(write_manifest(), None)
    snapshot_download(REPOSITORY, max_workers=1)
    offline()
    hub.requests.clear()
    assert resolve(write_manifest(), None) == online
    assert not hub.requests


def test_offline_an_empty_cache_says_what_to_do(
    hub: Hub, cache: Path, write_manifest: WriteManifest, offline: Callable[[], None]
) -> None:
    """Without lock and cache there are three ways out, and all are named."""
    offline()
    error = resolve_fails(write_manifest())
    assert error.message == "cannot pin `acme/tiny-gemma3@main`: HF_HUB_OFFLINE is set and there is no lock for it"
    assert str(cache / "models--acme--tiny-gemma3" / "refs" / "main") in error.causes[0]
    assert "hf download acme/tiny-gemma3 --revision main" in render(error)


def test_offline_a_cache_with_holes_is_refused(
    hub: Hub, cache: Path, write_manifest: WriteManifest, offline: Callable[[], None]
) -> None:
    """What an index names and the cache lacks, and links to nothing, make a cache incomplete."""
    index = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}).encode()
    commit = "c" * 40
    folder = cache / "models--acme--tiny-gemma3"
    snapshot = folder / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    (snapshot / "model.safetensors.index.json").write_bytes(index)
    (snapshot / "model-1.safetensors").write_bytes(b"1")
    (snapshot / "config.json").symlink_to("../../blobs/" + "d" * 40)
    offline()
    assert resolve_fails(write_manifest()).causes == (
        f"the hub cache lacks `config.json`, `model-2.safetensors` of commit {commit}",
    )
    (snapshot / "config.json").unlink()
    (snapshot / "model-2.safetensors").write_bytes(b"2")
    repository = resolve(write_manifest(), None).repositories[f"{REPOSITORY}@main"]
    assert repository.partial
    assert {file.path: file.digest for file in repository.files}["model-2.safetensors"] == sha256(b"2")
