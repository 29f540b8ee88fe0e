"""Resolve a manifest: ask the hub what its revisions are now, for those that the lock does not pin yet.

Then complete the lock: what the hub names by git's digest alone is fetched and hashed, so that the lock holds the
sha256 of all that a build takes. These files are small, and they are in the hub cache then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from maxbuild.choice import InRepository, choose, missing, missing_addresses, models_of
from maxbuild.errors import MaxbuildError, UsageError, WorkFound
from maxbuild.lock import Lock, LockedAddress, LockedFile, LockedRepository, lock_name
from maxbuild.manifest import Manifest

ListRepository: TypeAlias = "Callable[[str, str], LockedRepository]"
"""Asks a hub for the repository of that name at that revision."""
HashFile: TypeAlias = "Callable[[LockedRepository, LockedFile], str]"
"""Fetches a small file, verifies it by git's digest, and returns the sha256 of its content."""
FetchAddress: TypeAlias = "Callable[[str], LockedAddress]"
"""Fetches a file from an address outside of the hub, and returns what it holds."""
NewestCommit: TypeAlias = "Callable[[str, str], str]"
"""Asks a hub for the commit that a revision of a repository is now."""

_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True)
class HubCalls:
    """What is asked of a hub."""

    list_repository: ListRepository
    hash_file: HashFile
    fetch_address: FetchAddress
    newest_commit: NewestCommit


def resolve(manifest: Manifest, lock: Lock | None, *, list_repository: ListRepository | None = None) -> Lock:
    """Return `lock` with every hub repository of `manifest` in it; what is in it already stays.

    `list_repository` asks the hub, by default the one that the environment names. Nothing is asked, and no network
    library imported, where nothing is missing. Raises MaxbuildError, for all at once, when the hub has no answer.
    """
    repositories = dict(lock.repositories) if lock else {}
    errors: list[MaxbuildError] = []
    for repo_id, revision in missing(manifest, lock):
        known = repositories.get(name := lock_name(repo_id, revision))
        ask = list_repository or hub_calls().list_repository
        try:
            listed = replace(ask(repo_id, known.commit if known else revision), revision=revision)
        except MaxbuildError as error:
            errors.append(error)
        else:
            repositories[name] = carry_digests(known, listed)
    if errors:
        raise together(errors, f"{len(errors)} revisions could not be pinned")
    return Lock(repositories, lock.addresses if lock else {})


def complete(manifest: Manifest, lock: Lock, *, calls: HubCalls | None = None) -> Lock:
    """Return `lock` with the sha256 of every file that `manifest` takes; each that is not known is fetched.

    `lock` pins every repository. Raises MaxbuildError when something cannot be fetched, UsageError, WeightsError or
    UnsupportedModel for a model that cannot be used at all.
    """
    if urls := missing_addresses(manifest, lock):
        fetch = (calls or hub_calls()).fetch_address
        lock = replace(lock, addresses={**lock.addresses, **{url: fetch(url) for url in urls}})
    unknown = unhashed(manifest, lock)
    if not unknown:
        return lock
    # Imported here: a run with everything locked has no use for threads.
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    hash_file = (calls or hub_calls()).hash_file
    with ThreadPoolExecutor(min(_AT_ONCE, len(unknown))) as threads:
        digests = list(threads.map(lambda place: hash_file(place.repository, place.file), unknown))
    hashed = {(place.repository.name, place.file.path): digest for place, digest in zip(unknown, digests, strict=True)}
    return replace(lock, repositories={name: _with_digests(r, hashed) for name, r in lock.repositories.items()})


def unhashed(manifest: Manifest, lock: Lock) -> Sequence[InRepository]:
    """Return the files that `manifest` takes and whose sha256 `lock` does not know."""
    places = [
        place
        for _, config in models_of(manifest)
        for place in choose(config, lock).places.values()
        if isinstance(place, InRepository) and place.file.sha256 is None
    ]
    return tuple({(place.repository.name, place.file.path): place for place in places}.values())


def require_pinned(manifest: Manifest, lock: Lock | None) -> None:
    """Raise WorkFound where `lock` does not say which commit a repository of `manifest` is; nothing is asked."""
    known = lock.repositories if lock else {}
    names = [lock_name(*pair) for pair in missing(manifest, lock)]
    unpinned = [f"`{name}` is not in the lock, so the hub would be asked" for name in names if name not in known]
    unpinned += [f"{url} is not in the lock, so it would be fetched" for url in missing_addresses(manifest, lock)]
    if unpinned:
        raise WorkFound(
            "a revision is not pinned" if len(unpinned) == 1 else f"{len(unpinned)} revisions are not pinned",
            causes=unpinned,
            hint="run `maxbuild warm` where the hub can be reached, and keep the lock beside the manifest",
        )


def deficits(manifest: Manifest, lock: Lock | None) -> Sequence[str]:
    """Return what `lock` lacks of all that a build of `manifest` depends on, in words."""
    known = lock.repositories if lock else {}
    names = [lock_name(*pair) for pair in missing(manifest, lock)]
    found = [
        f"`{name}` is listed in part only, from a cache" if name in known else f"`{name}` is not in it"
        for name in names
    ]
    found += [f"{url} is not in it" for url in missing_addresses(manifest, lock)]
    if found or lock is None:
        return found
    return [
        f"it has no sha256 of `{place.file.path}` of `{place.repository.name}`" for place in unhashed(manifest, lock)
    ]


def require_locked(manifest: Manifest, lock: Lock | None, path: object) -> None:
    """Raise UsageError, which names what is missing, where a build of `manifest` would change the lock at `path`."""
    if found := deficits(manifest, lock):
        raise UsageError(
            f"there is no lock `{path}`" if lock is None else f"the lock `{path}` is out of date",
            causes=found,
            hint=f"run `maxbuild lock {manifest.path}`, and keep what it writes with the manifest",
        )


def carry_digests(known: LockedRepository | None, listed: LockedRepository) -> LockedRepository:
    """Return `listed` with every sha256 that `known` has of the same content, as git names it."""
    before = {file.path: file for file in known.files} if known else {}
    files = tuple(
        replace(file, sha256=old.sha256)
        if file.sha256 is None and (old := before.get(file.path)) is not None and old.same_content(file)
        else file
        for file in listed.files
    )
    return replace(listed, files=files)


def together(errors: Sequence[MaxbuildError], message: str) -> MaxbuildError:
    """Return one error of several; one alone stays as it is."""
    if len(errors) == 1:
        return errors[0]
    causes = [cause for error in errors for cause in (error.message, *(f"  {cause}" for cause in error.causes))]
    kind = type(errors[0]) if len({type(error) for error in errors}) == 1 else MaxbuildError
    return kind(message, causes=causes, hint=_joined(error.hint for error in errors))


def _joined(hints: Iterable[str | None]) -> str | None:
    return "\n".join(dict.fromkeys(hint for hint in hints if hint)) or None


def _with_digests(repository: LockedRepository, hashed: dict[tuple[str, str], str]) -> LockedRepository:
    files = tuple(
        replace(file, sha256=hashed.get((repository.name, file.path), file.sha256)) for file in repository.files
    )
    return repository if files == repository.files else replace(repository, files=files)


def hub_calls() -> HubCalls:
    """Return the hub that the environment names."""
    # Imported here: it costs a network library, which a run with everything locked has no use for.
    from maxbuild.hub import fetch_address, hash_small_file, list_repository, newest_commit  # noqa: PLC0415

    return HubCalls(list_repository, hash_small_file, fetch_address, newest_commit)
