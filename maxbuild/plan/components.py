"""The components of a manifest: each model under its role, with the place of every file that it consists of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from maxbuild.engine import OutputOf, SourceFile, Task
from maxbuild.errors import UnsupportedModel
from maxbuild.manifest import HubRepository, LocalFolder, Manifest, ModelConfig
from maxbuild.weights.selection import ComponentFiles, select_files

if TYPE_CHECKING:
    from maxbuild.lock import Lock


@dataclass(frozen=True, slots=True)
class Component:
    """One model under its role: what the manifest says of it, and where each of its files comes from."""

    role: str
    config: ModelConfig
    files: ComponentFiles
    sources: Mapping[str, SourceFile | OutputOf]
    weight_bytes: int
    downloads: tuple[Task, ...] = ()

    @property
    def trace_name(self) -> str:
        """Return the name of the component's trace task."""
        return f"trace {self.role}"

    @property
    def load_name(self) -> str:
        """Return the name of the component's load task."""
        return f"load {self.role}"


def find_components(manifest: Manifest, *, pin: bool, ask: bool) -> Sequence[Component]:
    """Return the components of `manifest`; hub revisions that are not pinned yet are asked for.

    pin: write those into the lock file beside the manifest. ask: where it is False, WorkFound is raised instead of
    asking. Raise UnsupportedModel or WeightsError where a model's files cannot be used at all.
    """
    lock = _locked(manifest, pin=pin, ask=ask)
    return [_component(role, config, lock) for role, config in manifest.models.items()]


def _locked(manifest: Manifest, *, pin: bool, ask: bool) -> Lock | None:
    if not any(isinstance(config.source, HubRepository) for config in manifest.models.values()):
        return None
    from maxbuild.lock import lock_path, read_lock, write_lock  # noqa: PLC0415 - local models have no lock
    from maxbuild.resolve import require_pinned, resolve  # noqa: PLC0415

    path = lock_path(manifest.path)
    known = read_lock(path)
    if not ask:
        require_pinned(manifest, known)
        return known
    lock = resolve(manifest, known)
    if pin and lock != known:
        write_lock(path, lock)
    return lock


def _component(role: str, config: ModelConfig, lock: Lock | None) -> Component:
    match config.source:
        case LocalFolder(path):
            folder = path / (config.subfolder or "")
            files = select_files(_names_in(folder), config.model_path, trust_remote_code=config.trust_remote_code)
            sources = {name: SourceFile(folder / name) for name in files.names}
            return Component(role, config, files, sources, sum(_size(folder / name) for name in files.weights))
        case HubRepository():
            assert lock is not None
            return _hub_component(role, config, lock)


def _hub_component(role: str, config: ModelConfig, lock: Lock) -> Component:
    from maxbuild.steps.download import FILE, download_task  # noqa: PLC0415 - a local model needs nothing of a hub

    repository = lock.repository(config)
    prefix = f"{config.subfolder.strip('/')}/" if config.subfolder else ""
    locked = {file.path.removeprefix(prefix): file for file in repository.files if file.path.startswith(prefix)}
    files = select_files(locked, config.model_path, trust_remote_code=config.trust_remote_code)
    downloads = {name: download_task(repository, locked[name], role) for name in files.names}
    sources = {name: OutputOf(task.name, FILE) for name, task in downloads.items()}
    weight_bytes = sum(locked[name].size for name in files.weights)
    return Component(role, config, files, sources, weight_bytes, tuple(downloads.values()))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # the task that reads it tells what is wrong
        return 0


def _names_in(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir() if entry.is_file()]
    except OSError as error:
        raise UnsupportedModel(f"could not read the model folder {folder}", causes=[str(error)]) from error
