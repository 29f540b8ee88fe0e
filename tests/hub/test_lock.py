"""The lock as a file and as a promise: deterministic bytes, no belief in what is damaged, nothing followed silently."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from maxbuild.errors import UsageError, render
from maxbuild.lock import Lock, LockedAddress, LockedFile, LockedRepository, lock_path, read_lock, write_lock
from maxbuild.lock.file import lock_text
from maxbuild.manifest import Manifest
from maxbuild.resolve import resolve

COMMIT, OTHER = "a" * 40, "b" * 40
FILES = (
    LockedFile("model.safetensors", 3, "1" * 64, None),
    LockedFile("config.json", 2, None, "2" * 40),
)
REPOSITORY = LockedRepository("acme/tiny-gemma3", "main", COMMIT, FILES)
TEXT = """\
{
  "repositories": {
    "acme/tiny-gemma3@main": {
      "commit": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
      "files": {
        "config.json": {
          "git_oid": "2222222222222222222222222222222222222222",
          "size": 2
        },
        "model.safetensors": {
          "sha256": "1111111111111111111111111111111111111111111111111111111111111111",
          "size": 3
        }
      }
    }
  },
  "schema": "maxbuild.lock.v1"
}
"""


def test_a_lock_has_one_text_whatever_the_order_of_its_parts() -> None:
    """The bytes are a function of what is locked."""
    other = LockedRepository("acme/draft", "v1", OTHER, ())
    assert lock_text(Lock.of([REPOSITORY])).decode() == TEXT
    assert lock_text(Lock.of([REPOSITORY, other])) == lock_text(Lock.of([other, REPOSITORY]))


def test_a_lock_comes_back_as_it_was_written(tmp_path: Path) -> None:
    """Reading is the inverse of writing, and writing the same again touches nothing."""
    path = lock_path(tmp_path / "gemma.yaml")
    partial = LockedRepository("acme/draft", "feature/x@2", OTHER, (), partial=True)
    lock = Lock.of([REPOSITORY, partial])
    write_lock(path, lock)
    before = path.stat()
    write_lock(path, lock)
    assert path.name == "gemma.lock"
    assert read_lock(path) == lock
    assert path.stat().st_ino == before.st_ino
    assert [file.name for file in tmp_path.iterdir()] == ["gemma.lock"]


def test_no_lock_is_no_error(tmp_path: Path) -> None:
    """A manifest that was never locked has no lock."""
    assert read_lock(tmp_path / "gemma.lock") is None


def test_what_is_known_of_a_file_and_of_an_address_comes_back(tmp_path: Path) -> None:
    """A small file keeps git's digest beside its sha256, so that a listing can be compared with it; addresses too."""
    both = LockedFile("config.json", 2, "3" * 64, "2" * 40)
    lock = Lock.of(
        [LockedRepository("acme/tiny-gemma3", "main", COMMIT, (both,))],
        [LockedAddress("https://example.com/model.safetensors", 7, "4" * 64)],
    )
    write_lock(tmp_path / "gemma.lock", lock)
    assert read_lock(tmp_path / "gemma.lock") == lock
    assert (both.algorithm, both.digest) == ("sha256", "3" * 64)
    assert both.same_content(LockedFile("config.json", 2, None, "2" * 40))
    assert not both.same_content(LockedFile("config.json", 2, None, "5" * 40))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (TEXT[:-5], "line 17"),
        ("<<<<<<< ours\n" + TEXT, "line 1, column 1 is no JSON"),
        ("[]", "it is no document of schema `maxbuild.lock.v1`"),
        (TEXT.replace("lock.v1", "lock.v9"), "its schema is `maxbuild.lock.v9`"),
        (TEXT.replace('"config.json"', '"../config.json"'), "not the path of a file in a repository"),
        (TEXT.replace('"config.json"', '"model.safetensors"'), "it names `model.safetensors` twice"),
        (TEXT.replace("a" * 40, "main"), "the commit of `acme/tiny-gemma3@main` is none: `main`"),
        (TEXT.replace('"size": 2', '"size": true'), "`config.json` has no size in bytes"),
        (TEXT.replace('"size": 2', '"size": "2"'), "`config.json` needs a `size`"),
        (TEXT.replace("2" * 40, "2" * 39), "the digest of `config.json` is none"),
        (TEXT.replace('"commit"', '"comit"'), "`acme/tiny-gemma3@main` needs a `commit` and `files`"),
        (TEXT.replace("@main", ""), "no repository at a revision"),
        (
            TEXT.replace('  "schema"', '  "addresses": {"https://a.b/c": {"size": 1}},\n  "schema"'),
            "needs a `size` and",
        ),
        ("[" * 100_000, ""),
    ],
)
def test_a_damaged_lock_is_refused_by_name(tmp_path: Path, content: str, problem: str) -> None:
    """No part of a damaged lock is believed, and the message says which file and what is wrong with it."""
    path = tmp_path / "gemma.lock"
    path.write_text(content)
    with pytest.raises(UsageError) as caught:
        read_lock(path)
    assert f"cannot use the lock `{path}`" in caught.value.message
    assert problem in caught.value.causes[0]
    assert "hint: restore the file" in render(caught.value)


def test_a_lock_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """Binary content is no lock."""
    (tmp_path / "gemma.lock").write_bytes(b'{"\xff": 1}')
    with pytest.raises(UsageError, match="not UTF-8"):
        read_lock(tmp_path / "gemma.lock")


def test_only_what_is_missing_is_asked_for(write_manifest: Callable[..., Manifest]) -> None:
    """What is locked stays; what is not is asked for once; other entries are kept."""
    asked: list[tuple[str, str]] = []

    def ask(repo_id: str, revision: str) -> LockedRepository:
        asked.append((repo_id, revision))
        return LockedRepository(repo_id, revision, OTHER, FILES)

    lock = resolve(write_manifest(), Lock.of([REPOSITORY]), list_repository=ask)
    assert lock == Lock.of([REPOSITORY])
    assert not asked
    grown = resolve(write_manifest(huggingface_model_revision="v1"), lock, list_repository=ask)
    assert asked == [("acme/tiny-gemma3", "v1")]
    assert {name: entry.commit for name, entry in grown.repositories.items()} == {
        "acme/tiny-gemma3@main": COMMIT,
        "acme/tiny-gemma3@v1": OTHER,
    }
    assert grown.repositories["acme/tiny-gemma3@main"] == REPOSITORY


def test_a_partial_list_is_completed_at_the_commit_it_was_made_of(write_manifest: Callable[..., Manifest]) -> None:
    """A list that an incomplete cache gave is asked for again, and the pin does not move by that."""
    asked: list[tuple[str, str]] = []

    def ask(repo_id: str, revision: str) -> LockedRepository:
        asked.append((repo_id, revision))
        return LockedRepository(repo_id, revision, revision, FILES)

    partial = LockedRepository("acme/tiny-gemma3", "main", COMMIT, FILES[:1], partial=True)
    lock = resolve(write_manifest(), Lock.of([partial]), list_repository=ask)
    assert asked == [("acme/tiny-gemma3", COMMIT)]
    assert lock == Lock.of([REPOSITORY])


def test_a_local_model_needs_no_lock(tmp_path: Path, write_manifest: Callable[..., Manifest]) -> None:
    """A folder of this host is not pinned."""
    (tmp_path / "model").mkdir()

    def ask(repo_id: str, revision: str) -> LockedRepository:
        raise AssertionError((repo_id, revision))

    manifest = write_manifest("./model")
    lock = resolve(manifest, None, list_repository=ask)
    assert json.loads(lock_text(lock)) == {"schema": "maxbuild.lock.v1", "repositories": {}}
