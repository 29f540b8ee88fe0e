"""The lock: which commit each hub repository of a manifest is pinned to, and the size and digest of every file there.

What is locked stays as it is until someone asks for something else: a branch that moved is not followed.
"""

from __future__ import annotations

import json
import re
import secrets
import unicodedata
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Final, Self

from maxbuild.engine import disk
from maxbuild.errors import StoreError, UsageError
from maxbuild.manifest import HubRepository, Manifest, ModelConfig

SCHEMA: Final = "maxbuild.lock.v1"
DEFAULT_REVISION: Final = "main"
SHA256: Final = "sha256"
GIT_BLOB_SHA1: Final = "git-blob-sha1"

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_GIT_OID = re.compile(r"[0-9a-f]{40}")
_REPOSITORY = re.compile(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class LockedFile:
    """One file of a repository: its path there, its size in bytes, and one digest of its content.

    The hub knows the `sha256` of what it keeps in large file storage, and git's own digest (`git_oid`) of all else.
    Raises ValueError for a path that leaves the repository, or when there is not exactly one digest.
    """

    path: str
    size: int
    sha256: str | None
    git_oid: str | None

    def __post_init__(self) -> None:
        """Refuse what could not be downloaded and verified."""
        _check_path(self.path)
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 0:
            raise ValueError(f"`{self.path}` has no size in bytes")
        if (self.sha256 is None) == (self.git_oid is None):
            raise ValueError(f"`{self.path}` needs one digest, `sha256` or `git_oid`")
        pattern = _GIT_OID if self.sha256 is None else _SHA256
        if not isinstance(self.digest, str) or not pattern.fullmatch(self.digest):
            raise ValueError(f"the digest of `{self.path}` is none: `{self.digest}`")

    @property
    def algorithm(self) -> str:
        """Return how `digest` is made of the content: `sha256` or `git-blob-sha1`."""
        return GIT_BLOB_SHA1 if self.sha256 is None else SHA256

    @property
    def digest(self) -> str:
        """Return the digest, in hexadecimal digits."""
        return self.sha256 or self.git_oid or ""


@dataclass(frozen=True, slots=True)
class LockedRepository:
    """A repository at the commit that `revision` meant when it was locked; `files` are in the order of their paths.

    `partial` marks a list read from a cache that may hold only some of the files; it is asked for again, at the same
    commit, as soon as the hub can be reached.
    """

    repo_id: str
    revision: str
    commit: str
    files: tuple[LockedFile, ...]
    partial: bool = False

    def __post_init__(self) -> None:
        """Bring the files into order; ValueError for two of one path or a commit that is none."""
        if not _REPOSITORY.fullmatch(self.repo_id) or not self.revision:
            raise ValueError(f"no repository at a revision: `{self.name}`")
        if not isinstance(self.commit, str) or not _COMMIT.fullmatch(self.commit):
            raise ValueError(f"the commit of `{self.name}` is none: `{self.commit}`")
        files = tuple(sorted(self.files, key=lambda file: file.path))
        if len({file.path for file in files}) != len(files):
            raise ValueError(f"`{self.name}` names a file twice")
        object.__setattr__(self, "files", files)

    @property
    def name(self) -> str:
        """Return what a lock calls it: `organization/name@revision`."""
        return lock_name(self.repo_id, self.revision)


@dataclass(frozen=True, slots=True)
class Lock:
    """Repositories by `organization/name@revision`."""

    repositories: Mapping[str, LockedRepository]

    def __post_init__(self) -> None:
        """Freeze the mapping, in the order of its names."""
        object.__setattr__(self, "repositories", MappingProxyType(dict(sorted(self.repositories.items()))))

    @classmethod
    def of(cls, repositories: Iterable[LockedRepository]) -> Self:
        """Return the lock of `repositories`."""
        return cls({repository.name: repository for repository in repositories})

    def repository(self, model: ModelConfig) -> LockedRepository:
        """Return the repository that `model` comes from; KeyError for a local folder, or where it is not locked."""
        match model.source:
            case HubRepository(repo_id):
                return self.repositories[lock_name(repo_id, _revision_of(model))]
        raise KeyError(model.model_path)

    def to_bytes(self) -> bytes:
        """Return the text of the lock file: JSON, members sorted, one value a line."""
        repositories = {name: _repository_to_json(value) for name, value in self.repositories.items()}
        document = {"schema": SCHEMA, "repositories": repositories}
        return (json.dumps(document, ensure_ascii=False, indent=2, sort_keys=True) + "\n").encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Return the lock that `content` describes; ValueError, with what is wrong, where it describes none."""
        match json.loads(content, object_pairs_hook=_members):
            case {"schema": str(schema), "repositories": dict(repositories), **rest} if schema == SCHEMA and not rest:
                return cls.of(_parse_repository(name, value) for name, value in repositories.items())
            case {"schema": str(schema)} if schema != SCHEMA:
                raise ValueError(f"its schema is `{schema}`, and `{SCHEMA}` is wanted")
        raise ValueError(f"it is no document of schema `{SCHEMA}`")


def lock_name(repo_id: str, revision: str) -> str:
    """Return what a lock calls a repository at a revision."""
    return f"{repo_id}@{revision}"


def lock_path(manifest: Path) -> Path:
    """Return where the lock of the manifest file `manifest` lies: beside it, with the suffix `.lock`."""
    return manifest.with_suffix(".lock")


def read_lock(path: Path) -> Lock | None:
    """Return the lock in the file `path`, None where there is no such file.

    Raises UsageError for a file that is no lock, or a damaged one.
    """
    hint = "restore the file from version control, or delete it to pin every repository anew"
    try:
        return Lock.from_bytes(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"cannot read the lock `{path}`", causes=[error.strerror or str(error)]) from error
    except json.JSONDecodeError as error:
        cause = f"line {error.lineno}, column {error.colno} is no JSON: {error.msg}"
        raise UsageError(f"cannot use the lock `{path}`", causes=[cause], hint=hint) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"cannot use the lock `{path}`", causes=["it is not UTF-8 text"], hint=hint) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"cannot use the lock `{path}`", causes=[str(error)], hint=hint) from error


def write_lock(path: Path, lock: Lock) -> None:
    """Write `lock` to the file `path`, whole or not at all; a file that says the same already is left alone.

    Raises StoreError when the disk refuses.
    """
    content = lock.to_bytes()
    with suppress(OSError):
        if path.read_bytes() == content:
            return
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        disk.write_file(scratch, content, disk.PUBLIC_FILE)
        disk.rename(scratch, path)
        disk.sync_directory(path.parent)
    except StoreError as error:
        with suppress(StoreError):
            disk.unlink(scratch)
        raise StoreError(
            f"could not write the lock `{path}`",
            causes=error.causes,
            hint="the lock lies beside its manifest: make that folder writable and see that the disk is not full",
        ) from error


def missing(manifest: Manifest, lock: Lock | None) -> tuple[tuple[str, str], ...]:
    """Return what `resolve` would ask the hub for: names and revisions of repositories."""
    known = lock.repositories if lock else {}
    wanted = {
        (model.source.repo_id, _revision_of(model)): None
        for model in manifest.models.values()
        if isinstance(model.source, HubRepository)
    }
    locked = {name for name, repository in known.items() if not repository.partial}
    return tuple(pair for pair in wanted if lock_name(*pair) not in locked)


def _revision_of(model: ModelConfig) -> str:
    return model.huggingface_model_revision or DEFAULT_REVISION


def _check_path(path: str) -> None:
    parts = PurePosixPath(path)
    plain = not any(unicodedata.category(character) in {"Cc", "Cs"} for character in path)
    if not path or parts.is_absolute() or str(parts) != path or {".", ".."} & set(parts.parts) or "\\" in path:
        raise ValueError(f"not the path of a file in a repository: {path!r}")
    if not plain:
        raise ValueError(f"the path of a file holds a control character: {path!r}")


def _repository_to_json(repository: LockedRepository) -> dict[str, object]:
    files = {
        file.path: {"size": file.size, **({"sha256": file.sha256} if file.sha256 else {"git_oid": file.git_oid})}
        for file in repository.files
    }
    partial = {"partial": True} if repository.partial else {}
    return {"commit": repository.commit, "files": files, **partial}


def _parse_repository(name: str, value: object) -> LockedRepository:
    repo_id, _, revision = name.partition("@")
    match value:
        case {"commit": str(commit), "files": dict(files), **rest} if rest in ({}, {"partial": True}):
            locked = tuple(_parse_file(path, file) for path, file in files.items())
            return LockedRepository(repo_id, revision, commit, locked, partial=bool(rest))
    raise ValueError(f"`{name}` needs a `commit` and `files`, and has something else")


def _parse_file(path: str, value: object) -> LockedFile:
    match value:
        case {"size": int(size), "sha256": str(digest), **rest} if not rest:
            return LockedFile(path, size, digest, None)
        case {"size": int(size), "git_oid": str(digest), **rest} if not rest:
            return LockedFile(path, size, None, digest)
    raise ValueError(f"`{path}` needs a `size` and either `sha256` or `git_oid`, and has something else")


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return the members of an object; ValueError for one named twice, as a careless merge leaves it."""
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it names `{next(name for name in names if names.count(name) > 1)}` twice")
    return members
