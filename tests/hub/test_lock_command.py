"""`maxbuild lock` and `outdated` against a hub: what they write, what they tell, and what they ask for."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from hub_world import DRAFT, REPOSITORY, WEIGHTS, Command
from server import Hub, Refusal

from maxbuild.lock import Lock, read_lock

FILES: Mapping[str, bytes] = {
    "config.json": b"{}",
    "tokenizer.json": b"[1]",
    "README.md": b"read me",
    "modeling_acme.py": b"import this",
    "model.safetensors": WEIGHTS,
}


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Return the file of a manifest of two models."""
    return write(tmp_path, main=f"{{model_path: {REPOSITORY}}}", draft=f"{{model_path: {DRAFT}}}")


def write(folder: Path, **models: str) -> Path:
    """Write a manifest of these models."""
    path = folder / "gemma.yaml"
    lines = [f"  {role}: {values}\n" for role, values in models.items()]
    speculative = (
        "speculative: {speculative_method: standalone, num_speculative_tokens: 4}\n" if "draft" in models else ""
    )
    path.write_text("version: 1\nname: gemma\ntargets: ['cpu:x86-64-v3']\nmodels:\n" + "".join(lines) + speculative)
    return path


def locked(manifest: Path) -> Lock:
    """Return the lock beside `manifest`."""
    lock = read_lock(manifest.with_suffix(".lock"))
    assert lock is not None
    return lock


def test_the_lock_has_the_sha256_of_all_that_is_taken(hub: Hub, manifest: Path, command: Command) -> None:
    """A small file, of which the hub knows git's digest, is hashed; what no build takes is not even fetched."""
    hub.push(REPOSITORY, FILES)
    hub.push(DRAFT, FILES)
    done = command("lock", manifest)
    assert done.code == 0, done.err
    files = {file.path: file for file in locked(manifest).repositories[f"{REPOSITORY}@main"].files}
    for path in ("config.json", "tokenizer.json", "model.safetensors"):
        assert files[path].sha256 == hashlib.sha256(FILES[path]).hexdigest()
    assert files["README.md"].sha256 is None
    fetched = {
        request.path.rpartition("/")[2]
        for request in hub.asked()
        if request.method == "GET" and "/resolve/" in request.path
    }
    assert fetched == {"config.json", "tokenizer.json"}


def test_code_is_pinned_by_sha256_where_it_is_trusted(hub: Hub, tmp_path: Path, command: Command) -> None:
    """What runs is in the lock by a digest that nobody can forge, as soon as it is to run."""
    hub.push(REPOSITORY, FILES)
    manifest = write(tmp_path, main=f"{{model_path: {REPOSITORY}}}")
    command("lock", manifest)
    manifest = write(tmp_path, main=f"{{model_path: {REPOSITORY}, trust_remote_code: true}}")
    check = command("lock", manifest, "--check")
    assert (check.code, check.out) == (3, f"it has no sha256 of `modeling_acme.py` of `{REPOSITORY}@main`\n")
    done = command("lock", manifest)
    assert f"~ {REPOSITORY}@main  completed" in done.out
    files = {file.path: file.sha256 for file in locked(manifest).repositories[f"{REPOSITORY}@main"].files}
    assert files["modeling_acme.py"] == hashlib.sha256(FILES["modeling_acme.py"]).hexdigest()


def test_a_lock_that_is_complete_asks_nobody_and_stays(hub: Hub, manifest: Path, command: Command) -> None:
    """The second `lock` asks nothing and writes nothing, whatever moved upstream."""
    hub.push(REPOSITORY, FILES)
    hub.push(DRAFT, FILES)
    command("lock", manifest)
    before = manifest.with_suffix(".lock").stat()
    hub.push(REPOSITORY, {**FILES, "config.json": b"{ }"})
    hub.requests.clear()
    done = command("lock", manifest)
    assert (done.code, done.out, hub.asked()) == (0, "", [])
    assert "is up to date: 2 revisions, 10 files" in done.err
    assert manifest.with_suffix(".lock").stat() == before
    assert command("lock", manifest, "--check").code == 0


def test_an_upgrade_tells_the_difference(hub: Hub, cache: Path, manifest: Path, command: Command) -> None:
    """Old and new commit, and every file that came, went or changed, with sizes; a file that stayed is not fetched."""
    old = hub.push(REPOSITORY, FILES)
    hub.push(DRAFT, FILES)
    command("lock", manifest)
    new = hub.push(
        REPOSITORY,
        {
            "config.json": b"{}",
            "tokenizer.json": b"[1, 2]",
            "modeling_acme.py": b"",
            "extra.txt": b"more",
            "model.safetensors": WEIGHTS,
        },
    )
    hub.requests.clear()
    shutil.rmtree(cache)
    done = command("lock", manifest, "--upgrade", "main")
    assert done.code == 0
    assert done.out.splitlines() == [
        f"~ {REPOSITORY}@main  {old[:12]} → {new[:12]}: 1 added, 1 removed, 2 changed",
        "    - README.md  7 B",
        "    + extra.txt  4 B",
        "    ~ modeling_acme.py  11 B → 0 B",
        "    ~ tokenizer.json  3 B → 6 B",
    ]
    fetched = [r.path.rpartition("/")[2] for r in hub.asked() if r.method == "GET" and "/resolve/" in r.path]
    assert fetched == ["tokenizer.json"]
    assert not [request for request in hub.asked() if DRAFT in request.path]
    assert locked(manifest).repositories[f"{REPOSITORY}@main"].commit == new


def test_an_upgrade_may_be_looked_at_first(hub: Hub, manifest: Path, command: Command) -> None:
    """`--upgrade --check` tells what would change, writes nothing, and exits with 3."""
    hub.push(REPOSITORY, FILES)
    hub.push(DRAFT, FILES)
    command("lock", manifest)
    before = manifest.with_suffix(".lock").read_bytes()
    hub.push(DRAFT, {**FILES, "config.json": b"{  }"})
    done = command("lock", manifest, "--upgrade", "--check", "--json")
    assert done.code == 3
    (change,) = json.loads(done.out)["changes"]
    assert (change["name"], change["change"]) == (f"{DRAFT}@main", "moved")
    assert change["files"] == [{"path": "config.json", "change": "changed", "before": 2, "after": 4}]
    assert manifest.with_suffix(".lock").read_bytes() == before


def test_a_commit_is_never_followed(hub: Hub, tmp_path: Path, command: Command) -> None:
    """A revision that is a commit means the same for ever, so an upgrade does not ask for it."""
    commit = hub.push(REPOSITORY, FILES)
    manifest = write(tmp_path, main=f"{{model_path: {REPOSITORY}, huggingface_model_revision: {commit}}}")
    command("lock", manifest)
    hub.requests.clear()
    assert command("lock", manifest, "--upgrade").code == 0
    assert command("outdated", manifest).code == 0
    assert hub.asked() == []


def test_entries_that_no_model_names_are_removed_and_told(hub: Hub, manifest: Path, command: Command) -> None:
    """`--check` finds them, and `lock` takes them out."""
    hub.push(REPOSITORY, FILES)
    hub.push(DRAFT, FILES)
    command("lock", manifest)
    write(manifest.parent, main=f"{{model_path: {REPOSITORY}}}")
    check = command("lock", manifest, "--check")
    assert (check.code, check.out) == (3, f"no model names `{DRAFT}@main` any more\n")
    done = command("lock", manifest)
    assert done.out == f"- {DRAFT}@main  removed: no model names it any more\n"
    assert list(locked(manifest).repositories) == [f"{REPOSITORY}@main"]


def test_check_asks_nobody(hub: Hub, manifest: Path, command: Command) -> None:
    """Without a lock, `--check` names what would be in it, and does not find out what that is."""
    done = command("lock", manifest, "--check", "--json")
    assert done.code == 3
    assert json.loads(done.out)["lacks"] == [f"`{REPOSITORY}@main` is not in it", f"`{DRAFT}@main` is not in it"]
    assert hub.requests == []
    assert not manifest.with_suffix(".lock").exists()


def test_all_that_cannot_be_pinned_is_told_at_once(hub: Hub, manifest: Path, command: Command) -> None:
    """Two repositories that are not there are one error that names both, and there is no lock of a half."""
    done = command("lock", manifest)
    assert done.code == 2
    assert "2 revisions could not be pinned" in done.err
    assert REPOSITORY in done.err
    assert DRAFT in done.err
    assert not manifest.with_suffix(".lock").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("main",), "`main` says nothing without `--upgrade`"),
        (("--upgrade", "vae"), "the manifest has no model in the role `vae`"),
    ],
)
def test_wrong_words_are_refused(
    hub: Hub, manifest: Path, command: Command, arguments: tuple[str, ...], message: str
) -> None:
    """Roles that say nothing, or are none, are errors of usage."""
    done = command("lock", manifest, *arguments)
    assert done.code == 2
    assert message in done.err


def test_outdated_asks_for_the_commits_alone(hub: Hub, manifest: Path, command: Command) -> None:
    """One request for each revision; what moved is told with both commits, and the code is 3."""
    old = hub.push(REPOSITORY, FILES)
    hub.push(DRAFT, FILES)
    command("lock", manifest)
    assert command("outdated", manifest).code == 0
    new = hub.push(REPOSITORY, {**FILES, "config.json": b"{ }"})
    hub.requests.clear()
    done = command("outdated", manifest)
    assert done.code == 3
    row = next(line for line in done.out.splitlines() if REPOSITORY in line)
    assert row.split() == [f"{REPOSITORY}@main", "main", old[:12], new[:12], "moved"]
    assert "2 revisions, 1 outdated" in done.err
    assert sorted(request.path for request in hub.asked()) == [
        f"/api/models/{DRAFT}/revision/main",
        f"/api/models/{REPOSITORY}/revision/main",
    ]
    states = {
        row["repository"]: row["state"] for row in json.loads(command("outdated", manifest, "--json").out)["revisions"]
    }
    assert states == {REPOSITORY: "moved", DRAFT: "up to date"}


def test_outdated_without_a_lock_says_what_is_not_locked(hub: Hub, manifest: Path, command: Command) -> None:
    """What was never pinned cannot be up to date."""
    hub.push(REPOSITORY, FILES)
    hub.push(DRAFT, FILES)
    done = command("outdated", manifest)
    assert done.code == 3
    assert done.out.count("not locked") == 2


@pytest.mark.filterwarnings("always::maxbuild.hub.RenamedRepositoryWarning")
def test_a_renamed_repository_is_followed_and_told(hub: Hub, tmp_path: Path, command: Command) -> None:
    """The hub's redirect is followed for the listing and for the files; the new name is told, the manifest's stays."""
    hub.push("acme/new-name", FILES)
    hub.renamed[REPOSITORY] = "acme/new-name"
    manifest = write(tmp_path, main=f"{{model_path: {REPOSITORY}}}")
    done = command("lock", manifest)
    assert done.code == 0, done.err
    assert f"warning: `{REPOSITORY}` is called `acme/new-name` now" in done.err
    repository = locked(manifest).repositories[f"{REPOSITORY}@main"]
    assert {file.path: file.sha256 for file in repository.files}["config.json"] == hashlib.sha256(b"{}").hexdigest()


def test_a_tree_of_many_pages_is_read_whole(hub: Hub, tmp_path: Path, command: Command) -> None:
    """The list of a large repository comes in pages, and every page is asked for."""
    hub.push(REPOSITORY, {**FILES, **{f"notes/{number:03}.txt": b"-" for number in range(60)}})
    hub.page = 7
    manifest = write(tmp_path, main=f"{{model_path: {REPOSITORY}}}")
    assert command("lock", manifest).code == 0
    assert len(locked(manifest).repositories[f"{REPOSITORY}@main"].files) == 65


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["../../.bashrc"], "not the path of a file in a repository"),
        (["/etc/passwd"], "not the path of a file in a repository"),
        (["a/../../b"], "not the path of a file in a repository"),
        (["a\\..\\b"], "not the path of a file in a repository"),
        (["a//b"], "not the path of a file in a repository"),
        (["bell\a.json"], "control character"),
        (["NUL.json"], "is reserved"),
        (["a/com1"], "is reserved"),
        (["ends with a dot."], "is reserved"),
        (["c:stream"], "is reserved"),
        ([".git/config"], "is reserved"),
        (["x" * 256], "too long"),
        (["Config.json"], "differ in case alone"),
        (["\u00e9.txt", "e\u0301.txt"], "differ in case alone"),
        (["config.json/x"], "is a file, and"),
    ],
)
def test_names_that_do_not_stay_in_a_folder_are_refused(
    *, hub: Hub, tmp_path: Path, command: Command, names: list[str], problem: str
) -> None:
    """A listing with such a name is refused as a whole, before a byte of a file is asked for."""
    hub.push(REPOSITORY, {**FILES, **dict.fromkeys(names, b"x")})
    manifest = write(tmp_path, main=f"{{model_path: {REPOSITORY}}}")
    done = command("lock", manifest)
    assert done.code == 1
    assert "in a way that cannot be used" in done.err
    assert problem in done.err
    assert not [request for request in hub.asked() if "/resolve/" in request.path]
    assert not manifest.with_suffix(".lock").exists()


def test_what_is_neither_file_nor_folder_is_refused(hub: Hub, tmp_path: Path, command: Command) -> None:
    """A link or a submodule in a repository is nothing that can be fetched and verified."""
    hub.push(REPOSITORY, FILES)
    hub.types["README.md"] = "symlink"
    done = command("lock", write(tmp_path, main=f"{{model_path: {REPOSITORY}}}"))
    assert done.code == 1
    assert "`README.md` is neither a file nor a folder: `symlink`" in done.err


def test_a_small_file_that_is_not_what_was_listed_is_refused(hub: Hub, tmp_path: Path, command: Command) -> None:
    """Nothing enters the lock by hash that is not what the hub's own list says."""
    hub.push(REPOSITORY, FILES)
    hub.wrong["config.json"] = b"[]"
    done = command("lock", write(tmp_path, main=f"{{model_path: {REPOSITORY}}}"))
    assert done.code == 1
    assert "config.json" in done.err
    assert not (tmp_path / "gemma.lock").exists()


def test_a_gated_repository_is_listed_and_not_given(hub: Hub, tmp_path: Path, command: Command) -> None:
    """Without access, the lock cannot be completed, and the message says how to get it."""
    hub.push(REPOSITORY, FILES)
    hub.gated[REPOSITORY] = "a-token"
    done = command("lock", write(tmp_path, main=f"{{model_path: {REPOSITORY}}}"))
    assert done.code == 1
    assert "it is gated" in done.err
    assert "ask for access at http://127.0.0.1" in done.err


def test_outdated_tells_a_hub_that_fails(hub: Hub, manifest: Path, command: Command) -> None:
    """No answer is no statement about what moved."""
    hub.refusals["/api/models/"] = Refusal(500)
    done = command("outdated", manifest)
    assert done.code == 1
    assert "2 revisions could not be asked for" in done.err
