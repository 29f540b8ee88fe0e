"""The components of a manifest: each model under its role, with the place of every file that it consists of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from maxbuild.choice import Choice, InRepository, NotLocked, choose, missing_addresses, models_of, repositories_of
from maxbuild.engine import OutputOf, SourceFile, Task
from maxbuild.errors import UsageError
from maxbuild.manifest import Manifest, ModelConfig
from maxbuild.weights.selection import ComponentFiles

if TYPE_CHECKING:
    from maxbuild.lock import Lock


@dataclass(frozen=True, slots=True)
class Component:
    """One model under its role: what the manifest says of it, and where each of its files comes from."""

    role: str
    config: ModelConfig
    choice: Choice
    sources: Mapping[str, SourceFile | OutputOf]
    downloads: tuple[Task, ...] = ()

    @property
    def files(self) -> ComponentFiles:
        """Return the names of the component's files."""
        return self.choice.files

    @property
    def weight_bytes(self) -> int:
        """Return how many bytes the weight files have together."""
        return sum(self.choice.sizes[name] for name in self.files.weights)

    @property
    def trace_name(self) -> str:
        """Return the name of the component's trace task."""
        return f"trace {self.role}"

    @property
    def load_name(self) -> str:
        """Return the name of the component's load task."""
        return f"load {self.role}"


def find_components(manifest: Manifest, *, pin: bool, ask: bool, locked: bool = False) -> Sequence[Component]:
    """Return the components of `manifest`; hub revisions that are not pinned yet are asked for.

    pin: write those into the lock file beside the manifest. ask: where it is False, WorkFound is raised instead of
    asking. locked: UsageError is raised where the lock would change. Raise UnsupportedModel or WeightsError where a
    model's files cannot be used at all.
    """
    return components_of(manifest, lock_of(manifest, pin=pin, ask=ask, locked=locked))


def components_of(manifest: Manifest, lock: Lock | None) -> Sequence[Component]:
    """Return the components of `manifest`; NotLocked where `lock` does not say what one depends on."""
    return [component_of(role, config, lock) for role, config in manifest.models.items()]


def component_of(role: str, config: ModelConfig, lock: Lock | None) -> Component:
    """Return one component; NotLocked where `lock` does not say what it depends on."""
    choice = choose(config, lock)
    again = config.force_download
    tasks = {name: _download(choice, name, role, again=again) for name in choice.places}
    downloads = {name: task for name, task in tasks.items() if task is not None}
    sources: dict[str, SourceFile | OutputOf] = {}
    for name, place in choice.places.items():
        if isinstance(place, Path):
            sources[name] = SourceFile(place)
        else:
            sources[name] = OutputOf(downloads[name].name, "file")
    return Component(role, config, choice, sources, tuple(downloads.values()))


def _download(choice: Choice, name: str, role: str, *, again: bool) -> Task | None:
    place = choice.places[name]
    if isinstance(place, Path):
        return None
    from maxbuild.steps.address import address_task  # noqa: PLC0415 - a local model has no use for these
    from maxbuild.steps.download import download_task  # noqa: PLC0415

    if isinstance(place, InRepository):
        return download_task(place.repository, place.file, role, again=again)
    return address_task(place, role, again=again)


def lock_of(manifest: Manifest, *, pin: bool, ask: bool, locked: bool = False) -> Lock | None:
    """Return the lock of `manifest`, None where nothing needs one; the rest is said at `find_components`."""
    if not any(repositories_of(config) or config.weights for _, config in models_of(manifest)):
        return None
    from maxbuild.lock import lock_path, read_lock, write_lock  # noqa: PLC0415 - local models have no lock
    from maxbuild.resolve import complete, require_locked, require_pinned, resolve  # noqa: PLC0415

    path = lock_path(manifest.path)
    known = read_lock(path)
    if locked:
        require_locked(manifest, known, path)
        return known
    if not ask:
        require_pinned(manifest, known)
        return known
    lock = resolve(manifest, known)
    if pin:
        lock = complete(manifest, lock)
        if lock != known:
            write_lock(path, lock)
    elif urls := missing_addresses(manifest, lock):
        raise UsageError(
            f"what lies at {urls[0]} is not known yet, so nothing that takes it can be planned",
            hint=f"`maxbuild lock {manifest.path}` fetches it and pins its content",
        )
    return lock


__all__ = ["Component", "NotLocked", "component_of", "find_components"]
