"""Make the lock of a manifest: what `maxbuild lock` writes, whole and without what no model names any more."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import NamedTuple

from maxbuild.choice import addresses_of, models_of, repositories_of, wanted
from maxbuild.errors import MaxbuildError
from maxbuild.lock import Lock, LockedRepository, is_commit, lock_name
from maxbuild.manifest import Manifest
from maxbuild.resolve import NewestCommit, carry_digests, complete, hub_calls, resolve, together


class Standing(NamedTuple):
    """How one revision of a manifest stands: the commit in the lock, and the one that the hub names now.

    `locked` is None where the lock does not know it, `newest` is `locked` for a revision that is a commit itself.
    """

    repo_id: str
    revision: str
    roles: tuple[str, ...]
    locked: str | None
    newest: str

    @property
    def moved(self) -> bool:
        """Tell whether the hub names another commit than the lock."""
        return self.locked != self.newest


def without_stale(manifest: Manifest, lock: Lock) -> Lock:
    """Return `lock` without the entries that no model of `manifest` names."""
    names = {lock_name(*pair) for pair in wanted(manifest)}
    urls = {url for _, config in models_of(manifest) for url in addresses_of(config)}
    return Lock(
        {name: value for name, value in lock.repositories.items() if name in names},
        {url: value for url, value in lock.addresses.items() if url in urls},
    )


def pinned(manifest: Manifest, known: Lock | None, *, upgrade: Collection[str] = ()) -> Lock:
    """Return the lock that `manifest` needs; what `known` pins stays, but for the models in the roles of `upgrade`.

    Those follow their branches and addresses to what is there now. Raises MaxbuildError when the hub has no answer.
    """
    kept = without_stale(manifest, known) if known else Lock({})
    followed = [config for role, config in models_of(manifest) if role in upgrade]
    names = {lock_name(*pair) for config in followed for pair in repositories_of(config) if not is_commit(pair[1])}
    urls = {url for config in followed for url in addresses_of(config)}
    start = Lock(
        {name: value for name, value in kept.repositories.items() if name not in names},
        {url: value for url, value in kept.addresses.items() if url not in urls},
    )
    resolved = resolve(manifest, start)
    carried = {name: _carried(kept, repository) for name, repository in resolved.repositories.items()}
    return complete(manifest, replace(resolved, repositories=carried))


def standings(
    manifest: Manifest, known: Lock | None, *, newest_commit: NewestCommit | None = None
) -> Sequence[Standing]:
    """Ask the hub what commit each revision of `manifest` is now, and for nothing else; commits are not asked for.

    Raises MaxbuildError, for all of them at once, where the hub has no answer.
    """
    locked = known.repositories if known else {}
    found: list[Standing] = []
    errors: list[MaxbuildError] = []
    for repo_id, revision in wanted(manifest):
        entry = locked.get(lock_name(repo_id, revision))
        pair = (repo_id, revision)
        roles = tuple(dict.fromkeys(role for role, config in models_of(manifest) if pair in repositories_of(config)))
        try:
            newest = (
                revision if is_commit(revision) else (newest_commit or hub_calls().newest_commit)(repo_id, revision)
            )
        except MaxbuildError as error:
            errors.append(error)
        else:
            found.append(Standing(repo_id, revision, roles, entry.commit if entry else None, newest))
    if errors:
        raise together(errors, f"{len(errors)} revisions could not be asked for")
    return found


def _carried(known: Lock, listed: LockedRepository) -> LockedRepository:
    return carry_digests(known.repositories.get(listed.name), listed)
