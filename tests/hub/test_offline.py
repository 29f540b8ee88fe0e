"""Without network: the real command in a process that cannot open a socket, and what it says of what is lacking."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hub_world import DRAFT, MODEL, REPOSITORY, WEIGHTS, Command, download_file
from huggingface_hub import constants, snapshot_download, try_to_load_from_cache
from server import Hub

from maxbuild.errors import MaxbuildError
from maxbuild.hub import list_repository
from maxbuild.hub.cached import list_cached

ROOT = Path(__file__).parents[2]
DRAFT_MODEL = MODEL.with_name("tiny-gemma3-draft")

WATCH = """
import os, sys

def hook(event, arguments):
    opened = event == "socket.__new__" and int(arguments[1]) in (2, 10)  # AF_INET, AF_INET6
    if opened or event in ("socket.getaddrinfo", "socket.gethostbyname"):
        with open(os.environ["SOCKETS"], "a") as file:
            file.write(f"{event} {arguments[1:]}\\n")
        raise PermissionError(event)

sys.addaudithook(hook)
"""

Child = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def sockets(tmp_path: Path) -> Path:
    """Return the file in which every attempt at a socket is noted."""
    return tmp_path / "sockets"


@pytest.fixture
def child(hub: Hub, tmp_path: Path, sockets: Path) -> Child:
    """Return what runs the real command where neither it nor a process that it starts can open a socket."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(WATCH)

    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "maxbuild", *map(str, arguments)],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join((str(tmp_path / "site"), str(ROOT))),
                "MAXBUILD_STORE": str(tmp_path / "store"),
                "NO_COLOR": "1",
                "HF_ENDPOINT": hub.address,
                "HF_HOME": str(Path(constants.HF_HUB_CACHE).parent),
                "SOCKETS": str(sockets),
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


@pytest.fixture
def manifest(tmp_path: Path, hub: Hub) -> Path:
    """Return the file of a manifest of two models that the hub has."""
    hub.push(REPOSITORY, MODEL)
    hub.push(DRAFT, DRAFT_MODEL)
    path = tmp_path / "demo.yaml"
    path.write_text(
        f"""version: 1
name: demo
targets: [cpu]
models:
  main: {{model_path: {REPOSITORY}, max_length: 512, quantization_encoding: float32}}
  draft: {{model_path: {DRAFT}, max_length: 512, quantization_encoding: float32}}
speculative: {{speculative_method: standalone, num_speculative_tokens: 4, rejection_sampling_strategy: greedy}}
"""
    )
    return path


def test_the_watch_sees_a_socket(child: Child, manifest: Path, sockets: Path) -> None:
    """Without `--offline` the same command in the same process is caught: the other tests here can fail."""
    assert child("plan", manifest).returncode == 1
    assert sockets.read_text().startswith("socket.")


@pytest.mark.parametrize("said", ["--offline", "HF_HUB_OFFLINE"])
def test_what_is_locked_and_cached_is_planned_without_a_socket(
    hub: Hub, child: Child, command: Command, manifest: Path, sockets: Path, said: str
) -> None:
    """plan, why, graph and lock work from the lock and the cache; flag and variable mean the same."""
    assert command("lock", manifest).code == 0
    for repo_id in (REPOSITORY, DRAFT):
        snapshot_download(repo_id, max_workers=1)
    flag = ("--offline",) if said == "--offline" else ()
    environment = {} if flag else {"HF_HUB_OFFLINE": "1"}
    for arguments in (("plan", manifest), ("why", manifest), ("graph", manifest), ("lock", manifest)):
        done = child(*arguments, *flag, **environment)
        assert done.returncode == 0, (arguments, done.stderr)
    assert not sockets.exists()


def test_without_a_lock_the_cache_is_what_is_pinned(
    hub: Hub, child: Child, command: Command, manifest: Path, sockets: Path
) -> None:
    """A lock made without network from a whole cache is the lock that the hub would have given."""
    assert command("lock", manifest).code == 0
    online = manifest.with_suffix(".lock").read_text()
    manifest.with_suffix(".lock").unlink()
    for repo_id in (REPOSITORY, DRAFT):
        snapshot_download(repo_id, max_workers=1)
    done = child("lock", manifest, "--offline")
    assert done.returncode == 0, done.stderr
    assert manifest.with_suffix(".lock").read_text() == online
    assert not sockets.exists()


@pytest.mark.parametrize("verb", ["plan", "warm"])
def test_all_files_that_are_lacking_are_listed_at_once(
    hub: Hub, child: Child, command: Command, manifest: Path, sockets: Path, verb: str
) -> None:
    """Of both models, with sizes and one command each that brings them; a build does not even begin."""
    assert command("lock", manifest).code == 0  # it brings the small files, and not the weights
    done = child(verb, manifest, "--offline")
    assert done.returncode == 1
    assert done.stderr.startswith("error: 2 things that this needs are not on this host, ")
    for repo_id, folder in ((REPOSITORY, MODEL), (DRAFT, DRAFT_MODEL)):
        commit = hub.repositories[repo_id].branches["main"]
        size = (folder / "model.safetensors").stat().st_size
        cause = f"`model.safetensors` of `{repo_id}` at `{commit}`: "
        assert cause in done.stderr
        assert f"{size / 1e6:.1f} MB" in done.stderr or f"{size / 1e3:.0f} kB" in done.stderr
        assert f"hf download {repo_id} --revision {commit} model.safetensors" in done.stderr
    assert "built" not in done.stdout + done.stderr
    assert not sockets.exists()


def test_what_cannot_be_pinned_and_what_is_not_there_are_one_list(
    hub: Hub, child: Child, command: Command, manifest: Path, sockets: Path
) -> None:
    """One model is locked and lacks a file, the other is not locked: both are told by one error."""
    assert command("lock", manifest).code == 0
    lock = json.loads(manifest.with_suffix(".lock").read_text())
    del lock["repositories"][f"{DRAFT}@main"]
    manifest.with_suffix(".lock").write_text(json.dumps(lock))
    for verb in ("warm", "lock"):
        done = child(verb, manifest, "--offline")
        assert done.returncode == 1
        assert f"`{DRAFT}@main`, which is not in the lock" in done.stderr
        assert f"`model.safetensors` of `{REPOSITORY}`" in done.stderr
        assert f"hf download {DRAFT} --revision main" in done.stderr
    assert not sockets.exists()


def test_what_contradicts_offline_is_refused(child: Child, manifest: Path, sockets: Path) -> None:
    """A cluster and a question to the hub need the network; a remote cache is left out, and that is told."""
    done = child("warm", manifest, "--offline", "--executor", "dask://127.0.0.1:9")
    assert (done.returncode, "do not go together" in done.stderr) == (2, True)
    assert child("lock", manifest, "--upgrade", "--offline").returncode == 2
    assert child("outdated", manifest, HF_HUB_OFFLINE="1").returncode == 2
    done = child("warm", manifest, "--offline", "--remote", "https://127.0.0.1:9/cache")
    assert done.stderr.startswith("offline: the remote cache is not asked\n")
    assert not sockets.exists()


@pytest.mark.slow
def test_a_build_from_lock_and_caches_opens_no_socket(
    hub: Hub, child: Child, command: Command, manifest: Path, sockets: Path, demo_package: Path, shared_store: Path
) -> None:
    """A whole `warm --offline`, its tasks in processes of their own included; the second has nothing to do."""
    assert command("lock", manifest).code == 0
    for repo_id in (REPOSITORY, DRAFT):
        snapshot_download(repo_id, max_workers=1)
    done = child("warm", manifest, "--offline", "--locked", MAXBUILD_STORE=str(shared_store))
    assert done.returncode == 0, done.stderr
    package = Path(done.stdout.strip())
    ours = json.loads((manifest.parent / package / "package.json").read_bytes())
    theirs = json.loads((demo_package / "package.json").read_bytes())
    assert ours["files"] == theirs["files"]
    again = child("warm", manifest, "--offline", "--locked", MAXBUILD_STORE=str(shared_store))
    assert "nothing to do" in again.stderr
    assert not sockets.exists()


def test_locked_refuses_to_move(hub: Hub, command: Command, manifest: Path) -> None:
    """`warm --locked` names what the lock lacks, asks nobody, and writes nothing."""
    done = command("warm", manifest, "--locked", "--dry-run")
    assert done.code == 2
    assert f"there is no lock `{manifest.with_suffix('.lock')}`" in done.err
    assert f"`{REPOSITORY}@main` is not in it" in done.err
    assert f"`{DRAFT}@main` is not in it" in done.err
    assert not manifest.with_suffix(".lock").exists()
    command("lock", manifest)
    path = manifest.with_suffix(".lock")
    lock = json.loads(path.read_text())
    del lock["repositories"][f"{DRAFT}@main"]["files"]["config.json"]["sha256"]
    path.write_text(json.dumps(lock))
    before = path.read_bytes()
    hub.requests.clear()
    done = command("warm", manifest, "--locked", "--dry-run")
    assert done.code == 2
    assert (
        f"the lock `{path}` is out of date\n  Caused by: it has no sha256 of `config.json` of `{DRAFT}@main`"
        in done.err
    )
    assert f"hint: run `maxbuild lock {manifest}`" in done.err
    assert path.read_bytes() == before
    assert hub.asked() == []


def test_locked_plans_what_the_lock_says(hub: Hub, command: Command, manifest: Path) -> None:
    """With a whole lock, `--locked` asks nobody, whatever moved upstream."""
    command("lock", manifest)
    hub.push(REPOSITORY, {"config.json": b"{}", "model.safetensors": WEIGHTS})
    hub.requests.clear()
    done = command("warm", manifest, "--locked", "--dry-run")
    assert done.code == 0, done.err
    assert hub.asked() == []


def test_the_plan_tells_what_is_taken_and_what_is_left(hub: Hub, command: Command, tmp_path: Path) -> None:
    """How much comes from which commit, and which weights are left aside for what reason."""
    files = {
        "config.json": b"{}",
        "model.safetensors": WEIGHTS,
        "onnx/model.onnx": b"onnx",
        "consolidated.safetensors": b"2",
    }
    commit = hub.push(REPOSITORY, files)
    path = tmp_path / "one.yaml"
    path.write_text(
        "version: 1\nname: one\ntargets: ['cpu:x86-64-v3']\nmodels: {main: {model_path: " + REPOSITORY + "}}\n"
    )
    done = command("plan", path)
    assert done.out.splitlines()[:3] == [
        f"main: 2 files, 12 B from {REPOSITORY}@main ({commit[:12]})",
        "  left aside: 1 file, 1 B, the same weights in another layout (`consolidated.safetensors`)",
        "  left aside: 1 file, 4 B, another format: ONNX (`onnx/model.onnx`)",
    ]
    (source,) = json.loads(command("plan", path, "--json").out)["sources"]
    assert source["files"][0] == {
        "name": "config.json", "bytes": 2, "repository": REPOSITORY, "commit": commit, "path": "config.json",
    }  # fmt: skip
    assert {file["name"]: file["reason"] for file in source["left_aside"]}["onnx/model.onnx"] == "another format: ONNX"


def test_what_is_downloaded_is_found_under_its_branch(hub: Hub, cache: Path, tmp_path: Path) -> None:
    """Another program that asks the cache for `main` finds the files; a note that was there stays."""
    commit = hub.push(REPOSITORY, {"config.json": b"{}"})
    download_file(list_repository(REPOSITORY, "main"), "config.json", tmp_path / "scratch")
    assert Path(str(try_to_load_from_cache(REPOSITORY, "config.json"))).read_bytes() == b"{}"
    note = cache / "models--acme--tiny-gemma3" / "refs" / "main"
    assert note.read_text() == commit
    hub.push(REPOSITORY, {"config.json": b"[]"})
    download_file(list_repository(REPOSITORY, "main"), "config.json", tmp_path / "scratch")
    assert note.read_text() == commit


def test_a_link_that_leaves_the_cache_is_refused(hub: Hub, cache: Path, tmp_path: Path) -> None:
    """What a snapshot points to outside of the cache is no file of a repository."""
    hub.push(REPOSITORY, {"config.json": b"{}"})
    snapshot_download(REPOSITORY, max_workers=1)
    place = next(cache.rglob("config.json"))
    (tmp_path / "secret").write_text("{}")
    place.unlink()
    place.symlink_to(tmp_path / "secret")
    with pytest.raises(MaxbuildError, match="cannot use what the hub cache holds") as caught:
        list_cached(REPOSITORY, "main")
    assert "is a link that leaves the cache" in str(caught.value)
