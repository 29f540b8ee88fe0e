"""manifests/gemma.yaml against a hub that lists what the real repositories list, and warmed with a small stand-in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gemma_stand_in import write_stand_in
from hub_world import MODEL, TOKEN, Command
from huggingface_hub import constants
from listings import GEMMA_1B, GEMMA_12B, stand_in
from server import Hub

from maxbuild.lock import read_lock

ROOT = Path(__file__).parents[2]
MAIN, DRAFT = "google/gemma-3-12b-it", "google/gemma-3-1b-it"
DRAFT_MODEL = MODEL.with_name("tiny-gemma3-draft")

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Return a copy of the manifest, beside which a lock may be written."""
    return Path(shutil.copy(ROOT / "manifests" / "gemma.yaml", tmp_path / "gemma.yaml"))


@pytest.fixture
def listed(hub: Hub) -> Hub:
    """Return a hub that lists both repositories as they are, and gives their small files."""
    hub.push(MAIN, stand_in(GEMMA_12B))
    hub.push(DRAFT, stand_in(GEMMA_1B))
    return hub


def test_it_is_planned_from_the_listings(listed: Hub, command: Command, manifest: Path) -> None:
    """26 GB are named, of which no byte is fetched; what depends on the trace is told as not known yet."""
    done = command("plan", manifest)
    assert done.code == 0, done.err
    assert done.out.startswith("main: 15 files, 24.4 GB from google/gemma-3-12b-it@main (")
    assert "draft: 7 files, 2.0 GB from google/gemma-3-1b-it@main (" in done.out
    assert "after trace draft: package @ cuda:sm_90" in done.out
    assert "after trace draft: package @ hip:gfx942" in done.out
    assert not [request for request in listed.asked() if "/resolve/" in request.path]


def test_its_lock_pins_what_it_takes(listed: Hub, command: Command, manifest: Path) -> None:
    """Both commits, the sha256 of every file that is taken, none of the weights fetched for that."""
    assert command("lock", manifest).code == 0
    lock = read_lock(manifest.with_suffix(".lock"))
    assert lock is not None
    assert list(lock.repositories) == [f"{MAIN}@main", f"{DRAFT}@main"]
    unknown = [file.path for file in lock.repositories[f"{MAIN}@main"].files if file.sha256 is None]
    assert unknown == [".gitattributes", "README.md"]
    fetched = [request.path for request in listed.asked() if request.path.startswith("/large/")]
    assert fetched == []
    assert command("warm", manifest, "--locked", "--dry-run").code == 0


def test_the_plan_of_the_locked_manifest_names_every_file(listed: Hub, command: Command, manifest: Path) -> None:
    """Each shard is a download of its own, and the index is one for the programs that find the cache."""
    command("lock", manifest)
    tasks = [task["name"] for task in json.loads(command("plan", manifest, "--json").out)["tasks"]]
    assert [name for name in tasks if "model-0000" in name] == [
        f"download main/model-0000{number}-of-00005.safetensors" for number in range(1, 6)
    ]
    assert "download main/model.safetensors.index.json" in tasks
    assert "download draft/model.safetensors" in tasks
    assert len([name for name in tasks if name.startswith("download ")]) == 15 + 7


@pytest.fixture(scope="session")
def stand_in_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the small model in the big one's layout."""
    return write_stand_in(tmp_path_factory.mktemp("gemma"), MODEL)


@pytest.fixture
def gated(hub: Hub, stand_in_model: Path) -> Iterator[Hub]:
    """Return a hub that gives small models in place of both, to those who show the token."""
    hub.push(MAIN, stand_in_model)
    hub.push(DRAFT, DRAFT_MODEL)
    hub.gated = {MAIN: TOKEN, DRAFT: TOKEN}
    return hub


@pytest.fixture
def run(gated: Hub, tmp_path: Path, shared_store: Path) -> Run:
    """Return what runs the real command with the stand-in's size and encoding."""
    small = ("main.max_length=512", "draft.max_length=512")
    float32 = ("main.quantization_encoding=float32", "draft.quantization_encoding=float32")
    overrides = [word for override in (*small, *float32) for word in ("--override", override)]

    def run(*arguments: object, token: str | None = TOKEN) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "MAXBUILD_STORE": str(shared_store),
            "NO_COLOR": "1",
            "HF_ENDPOINT": gated.address,
            "HF_HOME": str(Path(constants.HF_HUB_CACHE).parent),
            **({} if token is None else {"HF_TOKEN": token}),
        }
        return subprocess.run(
            [*PYTHON, *map(str, arguments), *overrides],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )

    return run


PYTHON = (sys.executable, "-m", "maxbuild")


def holding(token: str, *folders: Path) -> list[Path]:
    """Return the files under `folders` that hold `token`, in their content or their path, and links that do."""
    found = []
    for folder in folders:
        for path in folder.rglob("*"):
            text = path.readlink().as_posix().encode() if path.is_symlink() else b""
            content = path.read_bytes() if path.is_file() else b""
            if token.encode() in content + text + path.as_posix().encode():
                found.append(path)
    return found


@pytest.mark.slow
def test_a_stand_in_is_warmed_and_the_token_is_nowhere(
    gated: Hub, run: Run, manifest: Path, tmp_path: Path, shared_store: Path
) -> None:
    """After builds that fail and builds that do not, the token is in no output, journal, key, lock, package or cache.

    They are refused without access, refused with a wrong token, built, found up to date, and broken by wrong bytes.
    """
    runs = [
        run("warm", manifest, "--target", "cpu", token=None),
        run("warm", manifest, "--target", "cpu", token="hf_wrong"),
    ]
    assert [done.returncode for done in runs] == [1, 1]
    assert all("it is gated" in done.stderr for done in runs)
    assert not manifest.with_suffix(".lock").exists()
    runs.append(run("warm", manifest, "--target", "cpu", "--verbose", "--json"))
    assert runs[-1].returncode == 0, runs[-1].stderr
    packages = json.loads(runs[-1].stdout)["packages"]
    runs.append(run("warm", manifest, "--target", "cpu", "--locked"))
    assert "nothing to do" in runs[-1].stderr
    gated.wrong = {"model.safetensors": b"other bytes"}
    shutil.rmtree(constants.HF_HUB_CACHE)
    runs.append(run("warm", manifest, "--target", "cpu", "--rerun", "download draft/model.safetensors"))
    assert runs[-1].returncode == 1
    runs += [run(*words, manifest) for words in (("why",), ("plan", "--json"), ("lock",), ("graph",))]
    assert {request.authorization for request in gated.asked() if "/large/" in request.path} == {None}
    assert not [done for done in runs if TOKEN in done.stdout + done.stderr]
    assert holding(TOKEN, tmp_path, shared_store) == []
    assert (tmp_path / packages[0] / "package.json").exists()


@pytest.mark.slow
def test_the_stand_in_is_compiled_for_both_gpus(run: Run, manifest: Path) -> None:
    """The manifest as it is but for the models' size: packages for Hopper and MI300, from a host with neither.

    Each model is one region here, which is the least to compile.
    """
    whole = [word for role in ("main", "draft") for word in ("--override", f"{role}.use_subgraphs=false")]
    done = run("warm", manifest, *whole)
    assert done.returncode == 0, done.stderr
    assert [Path(line).name for line in done.stdout.splitlines()] == ["cuda-sm_90", "hip-gfx942"]


def test_the_token_is_nowhere_before_anything_is_built(
    hub: Hub, command: Command, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused without it and taken with it, by every command that asks a hub: it is in no output and in no file."""
    hub.push(MAIN, stand_in(GEMMA_12B))
    hub.push(DRAFT, stand_in(GEMMA_1B))
    hub.gated = {MAIN: TOKEN, DRAFT: TOKEN}
    refused = command("warm", manifest)
    assert (refused.code, "it is gated" in refused.err) == (1, True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.wrong = {"config.json": f"a hub that sends {TOKEN} back".encode()}
    broken = command("lock", manifest)
    assert broken.code == 1
    hub.wrong = {}
    words = (("lock",), ("outdated",), ("plan", "--json"), ("why",), ("graph",), ("lock", "--upgrade", "--json"))
    runs = [refused, broken, *(command(*said, manifest) for said in words)]
    assert [done.code for done in runs[2:]] == [0] * len(words)
    assert f"Bearer {TOKEN}" in {request.authorization for request in hub.asked()}
    assert not [done for done in runs if TOKEN in done.out + done.err]
    assert manifest.with_suffix(".lock") in tmp_path.iterdir()
    assert holding(TOKEN, tmp_path) == []
