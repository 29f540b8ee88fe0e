"""What a lock says: repositories at commits, their files with sizes and digests, and files at addresses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Self

from maxbuild.lock.paths import check_path, check_together

DEFAULT_REVISION: Final = "main"
SHA256: Final = "sha256"
GIT_BLOB_SHA1: Final = "git-blob-sha1"

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_GIT_OID = re.compile(r"[0-9a-f]{40}")
_REPOSITORY = re.compile(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class LockedFile:
    """One file of a repository: its path there, its size in bytes, and what is known of its content.

    The hub knows the `sha256` of what it keeps in large file storage, and git's own digest (`git_oid`) of all else; the
    `sha256` of such a file is added when it is hashed on arrival. Raises ValueError for a path that leaves the
    repository, or when there is no digest.
    """

    path: str
    size: int
    sha256: str | None
    git_oid: str | None

    def __post_init__(self) -> None:
        """Refuse what could not be downloaded and verified."""
        check_path(self.path)
        _check_size(self.size, self.path)
        if self.sha256 is None and self.git_oid is None:
            raise ValueError(f"`{self.path}` needs a digest, `sha256` or `git_oid`")
        for digest, pattern in ((self.sha256, _SHA256), (self.git_oid, _GIT_OID)):
            if digest is not None and not (isinstance(digest, str) and pattern.fullmatch(digest)):
                raise ValueError(f"the digest of `{self.path}` is none: `{digest}`")

    @property
    def algorithm(self) -> str:
        """Return how `digest` is made of the content: `sha256` or `git-blob-sha1`."""
        return GIT_BLOB_SHA1 if self.sha256 is None else SHA256

    @property
    def digest(self) -> str:
        """Return the digest that content is verified by, in hexadecimal digits: `sha256` where it is known."""
        return self.sha256 or self.git_oid or ""

    def same_content(self, other: LockedFile) -> bool:
        """Tell whether both are the same content, by a digest that is known of both."""
        if self.sha256 is not None and other.sha256 is not None:
            return self.sha256 == other.sha256
        return self.git_oid is not None and self.git_oid == other.git_oid


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
        """Bring the files into order; ValueError for two that cannot lie side by side, or a commit that is none."""
        if not _REPOSITORY.fullmatch(self.repo_id) or not self.revision:
            raise ValueError(f"no repository at a revision: `{self.name}`")
        if not isinstance(self.commit, str) or not is_commit(self.commit):
            raise ValueError(f"the commit of `{self.name}` is none: `{self.commit}`")
        files = tuple(sorted(self.files, key=lambda file: file.path))
        check_together(file.path for file in files)
        object.__setattr__(self, "files", files)

    @property
    def name(self) -> str:
        """Return what a lock calls it: `organization/name@revision`."""
        return lock_name(self.repo_id, self.revision)


@dataclass(frozen=True, slots=True)
class LockedAddress:
    """A file at an address outside of any hub, by the content that it had when it was first fetched."""

    url: str
    size: int
    sha256: str

    def __post_init__(self) -> None:
        """Refuse what could not be verified."""
        _check_size(self.size, self.url)
        if not isinstance(self.sha256, str) or not _SHA256.fullmatch(self.sha256):
            raise ValueError(f"the digest of `{self.url}` is none: `{self.sha256}`")


def _no_addresses() -> Mapping[str, LockedAddress]:
    return {}


@dataclass(frozen=True, slots=True)
class Lock:
    """Repositories by `organization/name@revision`, and files outside of hubs by their address."""

    repositories: Mapping[str, LockedRepository]
    addresses: Mapping[str, LockedAddress] = field(default_factory=_no_addresses)

    def __post_init__(self) -> None:
        """Freeze the mappings, in the order of their names."""
        object.__setattr__(self, "repositories", MappingProxyType(dict(sorted(self.repositories.items()))))
        object.__setattr__(self, "addresses", MappingProxyType(dict(sorted(self.addresses.items()))))

    @classmethod
    def of(cls, repositories: Iterable[LockedRepository], addresses: Iterable[LockedAddress] = ()) -> Self:
        """Return the lock of `repositories` and of what lies at `addresses`."""
        return cls({each.name: each for each in repositories}, {each.url: each for each in addresses})


def lock_name(repo_id: str, revision: str) -> str:
    """Return what a lock calls a repository at a revision."""
    return f"{repo_id}@{revision}"


def is_commit(revision: str) -> bool:
    """Tell whether `revision` is a commit, which means the same for ever."""
    return _COMMIT.fullmatch(revision) is not None


def _check_size(size: object, name: str) -> None:
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise ValueError(f"`{name}` has no size in bytes")
