"""Weights from elsewhere: another revision, another repository, a file of this host, an address of the web."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hub_world import REPOSITORY, TOKEN, WEIGHTS, Command
from server import Hub, Refusal

from maxbuild.choice import InRepository, choose
from maxbuild.engine import Job
from maxbuild.errors import ManifestError, MaxbuildError, TaskFailed, UsageError, WeightsError
from maxbuild.hub import addresses, fetch_address
from maxbuild.lock import Lock, LockedAddress, read_lock
from maxbuild.manifest import Manifest
from maxbuild.resolve import complete, resolve
from maxbuild.steps.address import address_task, run_address

OTHER = "acme/finetune"
FINETUNE = WEIGHTS + b" "
CONFIG: Mapping[str, bytes] = {"config.json": b"{}", "tokenizer.json": b"[]"}
SHARDS = {f"model-0000{number}-of-00002.safetensors": WEIGHTS + bytes([number]) for number in (1, 2)}
INDEX = "model.safetensors.index.json"
WriteManifest = Callable[..., Manifest]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "WAITS", (0.0, 0.0, 0.0))


def taken(manifest: Manifest, lock: Lock | None) -> dict[str, object]:
    """Return the weight files that are chosen: for each name the repository and revision, the path or the address."""
    choice = choose(manifest.models["main"], lock)
    found: dict[str, object] = {}
    for name in choice.files.weights:
        place = choice.places[name]
        if isinstance(place, InRepository):
            found[name] = f"{place.repository.name}/{place.file.path}"
        else:
            found[name] = place.url if isinstance(place, LockedAddress) else place
    return found


def test_weights_may_be_of_another_revision(hub: Hub, write_manifest: WriteManifest) -> None:
    """Both revisions are pinned; the configuration is of one, the weights are of the other, and nothing else is."""
    hub.push(REPOSITORY, {**CONFIG, "model.safetensors": WEIGHTS})
    tuned = hub.push(REPOSITORY, {"config.json": b"[]", "model.safetensors": FINETUNE}, branch="tuned")
    manifest = write_manifest(huggingface_weight_revision="tuned")
    lock = resolve(manifest, None)
    assert set(lock.repositories) == {f"{REPOSITORY}@main", f"{REPOSITORY}@tuned"}
    assert lock.repositories[f"{REPOSITORY}@tuned"].commit == tuned
    assert taken(manifest, lock) == {"model.safetensors": f"{REPOSITORY}@tuned/model.safetensors"}
    config = choose(manifest.models["main"], lock).places["config.json"]
    assert isinstance(config, InRepository)
    assert config.repository.revision == "main"


def test_a_weight_revision_without_a_repository_is_refused(
    hub: Hub, tmp_path: Path, write_manifest: WriteManifest
) -> None:
    """An option that would say nothing is an error."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name, content in {**CONFIG, "model.safetensors": WEIGHTS}.items():
        (folder / name).write_bytes(content)
    manifest = write_manifest("./model", huggingface_weight_revision="tuned")
    with pytest.raises(UsageError, match="says nothing"):
        choose(manifest.models["main"], None)


def test_weights_may_be_a_file_of_this_host(hub: Hub, tmp_path: Path, write_manifest: WriteManifest) -> None:
    """A local file, or the shards that a local index lists, stand in for the repository's own weights."""
    hub.push(REPOSITORY, {**CONFIG, "model.safetensors": WEIGHTS})
    for name, content in {**SHARDS, INDEX: b"{}", "tuned.safetensors": FINETUNE}.items():
        (tmp_path / name).write_bytes(content)
    manifest = write_manifest(weight_path="[./tuned.safetensors]")
    lock = resolve(manifest, None)
    assert taken(manifest, lock) == {"tuned.safetensors": tmp_path / "tuned.safetensors"}
    manifest = write_manifest(weight_path=f"[./{INDEX}]")
    assert set(taken(manifest, lock)) == set(SHARDS)
    manifest = write_manifest(weight_path=f"['{tmp_path}']")
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    (tmp_path / "tuned.safetensors").unlink()
    with pytest.raises(WeightsError, match="shard 2 of 2 of `model` is not there"):
        taken(manifest, lock)


def test_weights_may_be_of_another_repository(hub: Hub, write_manifest: WriteManifest) -> None:
    """`organization/name` chooses there as in the model's own repository; a file of it is taken as it is named."""
    hub.push(REPOSITORY, {**CONFIG, "model.safetensors": WEIGHTS})
    hub.push(OTHER, {**SHARDS, INDEX: b"{}", "other/best.safetensors": FINETUNE, "pytorch_model.bin": b"no"})
    manifest = write_manifest(weight_path=f"[{OTHER}]")
    lock = resolve(manifest, None)
    assert taken(manifest, lock) == {name: f"{OTHER}@main/{name}" for name in SHARDS}
    assert INDEX in choose(manifest.models["main"], lock).files.index
    assert set(taken(write_manifest(weight_path=f"[{OTHER}/{INDEX}]"), lock)) == set(SHARDS)
    one = write_manifest(weight_path=f"[{OTHER}/other/best.safetensors]")
    assert taken(one, lock) == {"best.safetensors": f"{OTHER}@main/other/best.safetensors"}
    tuned = write_manifest(weight_path=f"[{OTHER}]", huggingface_weight_revision="v2")
    hub.push(OTHER, {"model.safetensors": FINETUNE}, branch="v2")
    assert taken(tuned, resolve(tuned, lock)) == {"model.safetensors": f"{OTHER}@v2/model.safetensors"}


def test_some_shards_of_a_set_are_refused(hub: Hub, write_manifest: WriteManifest) -> None:
    """Half a model is told before anything is fetched."""
    hub.push(REPOSITORY, CONFIG)
    hub.push(OTHER, SHARDS)
    manifest = write_manifest(weight_path=f"[{OTHER}/model-00001-of-00002.safetensors]")
    with pytest.raises(WeightsError, match="shard 2 of 2 of `model` is not there"):
        taken(manifest, resolve(manifest, None))


def test_a_file_that_the_repository_has_not_is_refused(hub: Hub, write_manifest: WriteManifest) -> None:
    """The message says what it has."""
    hub.push(REPOSITORY, CONFIG)
    hub.push(OTHER, SHARDS)
    manifest = write_manifest(weight_path=f"[{OTHER}/best.safetensors]")
    with pytest.raises(UsageError, match=r"has no file `best\.safetensors`") as caught:
        taken(manifest, resolve(manifest, None))
    assert "`model-00001-of-00002.safetensors`" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("./pytorch_model.bin", "is a pickle"),
        (f"{OTHER}/weights.pt", "is a pickle"),
        ("https://example.com/weights.ckpt", "is a pickle"),
        (f"{OTHER}/weights.gguf", "is no weight file that maxbuild reads"),
        (f"{OTHER}/a.safetensors, {OTHER}/b.gguf", "one format at a time"),
        ("./missing.safetensors", "no such weights"),
        ("models/missing.safetensors", "no such weights"),
        (f"{OTHER}/../x.safetensors", "is no file of a repository"),
        ("ftp://example.com/model.safetensors", "is no address that can be fetched"),
        ("https://user:pass@example.com/model.safetensors", "name or password"),
        ("https://example.com/model.safetensors?token=1", "may hold a signature"),
        ("https://example.com/", "ends in no name of a file"),
        ("https://example.com/..%2Fmodel.safetensors", "ends in no name of a file"),
    ],
)
def test_what_cannot_be_weights_is_refused_in_the_manifest(
    *, hub: Hub, tmp_path: Path, write_manifest: WriteManifest, entries: str, message: str
) -> None:
    """Each wrong entry has its place in the file and its message."""
    (tmp_path / "pytorch_model.bin").write_bytes(b"no")
    with pytest.raises(ManifestError) as caught:
        write_manifest(weight_path=f"[{entries}]" if ":" not in entries else f"['{entries}']")
    assert message in caught.value.message
    assert caught.value.problems[0].line == 7


def test_an_address_is_pinned_when_it_is_first_fetched(hub: Hub, tmp_path: Path, command: Command) -> None:
    """`lock` fetches what lies there and pins its sha256; the next one asks nothing; an upgrade takes what is there."""
    hub.push(REPOSITORY, CONFIG)
    hub.plain["/files/best.safetensors"] = FINETUNE
    url = f"{hub.large_address}/files/best.safetensors"
    manifest = write(tmp_path, f"{{model_path: {REPOSITORY}, weight_path: ['{url}']}}")
    plan = command("plan", manifest)
    assert plan.code == 2
    assert "`maxbuild lock" in plan.err
    done = command("lock", manifest)
    assert done.code == 0, done.err
    pinned = LockedAddress(url, len(FINETUNE), hashlib.sha256(FINETUNE).hexdigest())
    assert (read_lock(manifest.with_suffix(".lock")) or Lock({})).addresses == {url: pinned}
    hub.requests.clear()
    hub.plain["/files/best.safetensors"] = WEIGHTS
    assert command("lock", manifest).out == ""
    assert hub.asked() == []
    upgraded = command("lock", manifest, "--upgrade")
    assert f"~ {url}  {pinned.sha256[:12]} → {hashlib.sha256(WEIGHTS).hexdigest()[:12]}: 11 B → 10 B" in upgraded.out
    plan = command("plan", manifest, "--json")
    (source,) = [file for file in json.loads(plan.out)["sources"][0]["files"] if "url" in file]
    assert source == {"name": "best.safetensors", "bytes": len(WEIGHTS), "url": url}


def write(folder: Path, model: str) -> Path:
    """Write a manifest of this main model."""
    path = folder / "gemma.yaml"
    path.write_text(f"version: 1\nname: gemma\ntargets: ['cpu:x86-64-v3']\nmodels:\n  main: {model}\n")
    return path


def test_no_token_goes_to_an_address(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither to the host that is named nor to those that it redirects to, be it the hub itself."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.plain["/files/model.safetensors"] = WEIGHTS
    hub.redirects["/here/model.safetensors"] = f"{hub.address}/there/model.safetensors"
    hub.redirects["/there/model.safetensors"] = "/files/model.safetensors"
    found = fetch_address(f"{hub.large_address}/here/model.safetensors")
    assert found.sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    assert [request.path for request in hub.requests] == [
        "/here/model.safetensors", "/there/model.safetensors", "/files/model.safetensors"
    ]  # fmt: skip
    assert {request.authorization for request in hub.requests} == {None}


def test_a_fetch_that_breaks_off_goes_on(hub: Hub) -> None:
    """The rest is asked for, if it is still of the same file, and what came is one file whose hash is right."""
    content = WEIGHTS + bytes(range(256)) * 64
    hub.plain["/files/model.safetensors"] = content
    hub.drop_after = 5000
    found = fetch_address(f"{hub.address}/files/model.safetensors")
    assert found == LockedAddress(f"{hub.address}/files/model.safetensors", len(content), sha256(content))
    assert [request.range for request in hub.requests] == [None, "bytes=5000-"]
    assert addresses.address_place(found).read_bytes() == content


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        (Refusal(404), "answered 404"),
        (Refusal(403), "no token is sent to addresses outside of the hub"),
        (Refusal(503), "answered 503"),
    ],
)
def test_an_address_that_gives_nothing_is_told(hub: Hub, refusal: Refusal, message: str) -> None:
    """No partial file is left, and nothing is taken for the file."""
    hub.refusals["/files/"] = refusal
    with pytest.raises(MaxbuildError, match="could not fetch") as caught:
        fetch_address(f"{hub.address}/files/model.safetensors")
    assert message in f"{caught.value} {caught.value.hint}"
    assert [path for path in addresses._folder().rglob("*") if path.is_file()] == []


def test_redirects_end(hub: Hub) -> None:
    """A host that redirects for ever is given up."""
    hub.redirects["/loop/model.safetensors"] = "/loop/model.safetensors"
    with pytest.raises(MaxbuildError, match="redirected more than 5 times"):
        fetch_address(f"{hub.address}/loop/model.safetensors")


def test_two_files_of_one_name_are_refused(hub: Hub, tmp_path: Path, write_manifest: WriteManifest) -> None:
    """In one model, names tell files apart."""
    hub.push(REPOSITORY, CONFIG)
    hub.push(OTHER, {"best.safetensors": WEIGHTS})
    (tmp_path / "best.safetensors").write_bytes(FINETUNE)
    manifest = write_manifest(weight_path=f"[./best.safetensors, {OTHER}/best.safetensors]")
    with pytest.raises(UsageError, match=r"two weight files are called `best\.safetensors`"):
        taken(manifest, resolve(manifest, None))


def test_nothing_is_fetched_to_plan_what_is_locked(hub: Hub, write_manifest: WriteManifest) -> None:
    """What the lock completes once, later runs do not ask for again."""
    hub.push(REPOSITORY, {**CONFIG, "model.safetensors": WEIGHTS})
    manifest = write_manifest()
    lock = complete(manifest, resolve(manifest, None))
    hub.requests.clear()
    assert complete(manifest, resolve(manifest, lock)) == lock
    assert hub.requests == []


def sha256(content: bytes) -> str:
    """Return the digest of `content`."""
    return hashlib.sha256(content).hexdigest()


def test_an_address_is_fetched_as_it_was_pinned(hub: Hub, tmp_path: Path) -> None:
    """The task takes what is kept, fetches what is gone or damaged, and refuses other bytes than those pinned."""
    hub.plain["/files/best.safetensors"] = FINETUNE
    pinned = fetch_address(f"{hub.address}/files/best.safetensors")
    hub.requests.clear()
    place = run_address(job(pinned, tmp_path))["file"]
    assert (place.read_bytes(), hub.requests) == (FINETUNE, [])
    place.write_bytes(b"damaged")
    assert run_address(job(pinned, tmp_path))["file"].read_bytes() == FINETUNE
    assert len(hub.requests) == 1
    run_address(job(pinned, tmp_path, again=True))
    assert len(hub.requests) == 2
    place.unlink()
    hub.plain["/files/best.safetensors"] = WEIGHTS
    with pytest.raises(TaskFailed, match="is not what the lock expects"):
        run_address(job(pinned, tmp_path))


def job(file: LockedAddress, scratch: Path, *, again: bool = False) -> Job:
    """Return what the task of `file` is given to carry out."""
    task = address_task(file, "main", again=again)
    return Job(task.params, {}, scratch, lambda *_: None, task.local)
