"""Without network: what the lock, the store and the caches of this host lack for a manifest, all of it at once."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from maxbuild.choice import InRepository, addresses_of, missing, missing_addresses, models_of, repositories_of
from maxbuild.engine import Deferred, Result, State, Store, Task, survey
from maxbuild.errors import MaxbuildError
from maxbuild.lock import Lock, LockedAddress, lock_name, lock_path, read_lock
from maxbuild.manifest import Manifest
from maxbuild.plan.components import Component, component_of
from maxbuild.report.units import size


class Gap(NamedTuple):
    """One thing that is not on this host: what it is, how large where that is known, and what brings it.

    The files of all gaps that share a command are put behind it.
    """

    what: str
    size: int | None
    command: str
    file: str = ""


def require_pins(manifest: Manifest, store: Store) -> None:
    """Raise MaxbuildError, which lists all that is lacking on this host, unless every revision can be pinned here.

    Files are listed too, of the models that are pinned: who has to fetch something fetches all of it.
    """
    lock = read_lock(lock_path(manifest.path))
    unpinned, unfetched = missing(manifest, lock), missing_addresses(manifest, lock)
    if not unpinned and not unfetched:
        return
    # Imported here: what is pinned needs no look into the hub cache, and so no network library.
    from maxbuild.hub.cached import list_cached  # noqa: PLC0415

    repositories = dict(lock.repositories) if lock else {}
    gaps = [Gap(f"{url}, which is not in the lock", None, f"maxbuild lock {manifest.path}") for url in unfetched]
    for repo_id, revision in unpinned:
        name = lock_name(repo_id, revision)
        known = repositories.get(name)
        try:
            repositories[name] = replace(list_cached(repo_id, known.commit if known else revision), revision=revision)
        except MaxbuildError as error:
            command = f"hf download {repo_id} --revision {revision}"
            gaps.append(Gap(f"`{name}`, which is not in the lock: {'; '.join(error.causes)}", None, command))
    if gaps:
        found = Lock(repositories, lock.addresses if lock else {})
        raise lacking([*gaps, *file_gaps(_known_components(manifest, found), store, manifest.name)])


def file_gaps(components: Sequence[Component], store: Store, scope: str) -> Sequence[Gap]:
    """Return the files of `components` that neither the store nor the caches of this host hold."""
    gaps: list[Gap] = []
    for component in components:  # one by one: variants of a manifest have downloads of the same names
        report = survey(_Downloads(component), store, scope=scope)
        if wanted := {task.name for task in report.in_state(State.WOULD_RUN)}:
            gaps += _gaps_of(component, wanted)
    return tuple(dict.fromkeys(gaps))


def lacking(gaps: Sequence[Gap]) -> MaxbuildError:
    """Return the error that lists `gaps`, with the commands that bring them."""
    known = sum(gap.size or 0 for gap in gaps)
    amount = f", {size(known)}" if known else ""
    things = "1 thing" if len(gaps) == 1 else f"{len(gaps)} things"
    return MaxbuildError(
        f"{things} that this needs {'is' if len(gaps) == 1 else 'are'} not on this host{amount},"
        " and the network is not to be used",
        causes=[gap.what if gap.size is None else f"{gap.what}: {size(gap.size)}" for gap in gaps],
        hint="run once without `--offline` and HF_HUB_OFFLINE; or where there is network, and bring HF_HOME here:\n"
        + "\n".join(_commands(gaps)),
    )


def _commands(gaps: Sequence[Gap]) -> Sequence[str]:
    files: dict[str, list[str]] = {}
    for gap in gaps:
        files.setdefault(gap.command, []).append(gap.file)
    return [shlex.join([*shlex.split(command), *filter(None, names)]) for command, names in files.items()]


def _known_components(manifest: Manifest, lock: Lock) -> Sequence[Component]:
    """Return the components of which the lock knows all that their choice of files depends on."""
    return [
        component_of(role, config, lock)
        for role, config in models_of(manifest)
        if all(lock_name(*pair) in lock.repositories for pair in repositories_of(config))
        and not any(url not in lock.addresses for url in addresses_of(config))
    ]


def _gaps_of(component: Component, wanted: set[str]) -> Sequence[Gap]:
    """Return the files of one component that the caches lack, among those whose download would run."""
    from maxbuild.hub.addresses import address_place  # noqa: PLC0415 - as above
    from maxbuild.hub.cached import cached_place  # noqa: PLC0415

    gaps = []
    for name, place in component.choice.places.items():
        match place:
            case InRepository(repository, file) if _download_name(component, name) in wanted:
                if cached_place(repository.repo_id, repository.commit, file.path, file.size) is None:
                    command = f"hf download {repository.repo_id} --revision {repository.commit}"
                    what = f"`{file.path}` of `{repository.repo_id}` at `{repository.commit}`"
                    gaps.append(Gap(what, file.size, command, file.path))
            case LockedAddress() if _download_name(component, name) in wanted:
                if not address_place(place).exists():
                    command = shlex.join(["curl", "-fL", "--create-dirs", "-o", str(address_place(place)), place.url])
                    gaps.append(Gap(place.url, place.size, command))
    return gaps


def _download_name(component: Component, name: str) -> str:
    source = component.sources[name]
    return getattr(source, "task", "")


class _Downloads:
    """A plan of the downloads of one component alone."""

    def __init__(self, component: Component) -> None:
        self.tasks: Sequence[Task] = component.downloads

    def grow(self, _: Mapping[str, Result]) -> Sequence[Task]:
        return ()

    def deferred(self, _: Mapping[str, Result]) -> Sequence[Deferred]:
        return ()
