"""Resolve a manifest: ask the hub what its revisions are now, for those that the lock does not pin yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from maxbuild.errors import WorkFound
from maxbuild.lock import Lock, LockedRepository, lock_name, missing
from maxbuild.manifest import Manifest

ListRepository: TypeAlias = "Callable[[str, str], LockedRepository]"
"""Asks a hub for the repository of that name at that revision."""


def resolve(manifest: Manifest, lock: Lock | None, *, list_repository: ListRepository | None = None) -> Lock:
    """Return `lock` with every hub repository of `manifest` in it; what is in it already stays.

    `list_repository` asks the hub, by default the one that the environment names. Nothing is asked, and no network
    library imported, where nothing is missing. Raises MaxbuildError when the hub has no answer.
    """
    repositories = dict(lock.repositories) if lock else {}
    for repo_id, revision in missing(manifest, lock):
        name = lock_name(repo_id, revision)
        known = repositories.get(name)
        ask = list_repository or _hub()
        repositories[name] = replace(ask(repo_id, known.commit if known else revision), revision=revision)
    return Lock(repositories)


def require_pinned(manifest: Manifest, lock: Lock | None) -> None:
    """Raise WorkFound where `lock` does not say which commit a repository of `manifest` is; nothing is asked."""
    known = lock.repositories if lock else {}
    names = [lock_name(*pair) for pair in missing(manifest, lock)]
    unpinned = [f"`{name}` is not in the lock, so the hub would be asked" for name in names if name not in known]
    if unpinned:
        raise WorkFound(
            "a revision is not pinned" if len(unpinned) == 1 else f"{len(unpinned)} revisions are not pinned",
            causes=unpinned,
            hint="run `maxbuild warm` where the hub can be reached, and keep the lock beside the manifest",
        )


def _hub() -> ListRepository:
    # Imported here: it costs a network library, which a run with everything locked has no use for.
    from maxbuild.hub import list_repository  # noqa: PLC0415

    return list_repository
