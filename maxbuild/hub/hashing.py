"""The sha256 of a small file, which the hub knows by git's digest alone: it is fetched, verified and hashed."""

from __future__ import annotations

from maxbuild.hub.problems import Wanted
from maxbuild.hub.transfer import fetch_file
from maxbuild.lock import LockedFile, LockedRepository


def hash_small_file(repository: LockedRepository, file: LockedFile) -> str:
    """Return the sha256 of `file`, which is in the hub cache then; what is raised is said at `fetch_file`."""
    return fetch_file(Wanted(repository.repo_id, repository.commit, file.path), file, lambda _: None).sha256
