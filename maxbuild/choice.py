"""Which files a component takes, and where each of them lies: decided by the manifest, the lock and names alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from maxbuild.errors import UnsupportedModel, UsageError, WeightsError
from maxbuild.lock import DEFAULT_REVISION, Lock, LockedAddress, LockedFile, LockedRepository, lock_name
from maxbuild.manifest import HubRepository, LocalFolder, Manifest, ModelConfig
from maxbuild.weights.formats import index_layout
from maxbuild.weights.selection import ComponentFiles, check_whole, select_files, select_weights, shards_of

_Pair: TypeAlias = tuple[str, str]
"""A repository and a revision."""


@dataclass(frozen=True, slots=True)
class InRepository:
    """A file of a hub repository, at the commit that the lock pins."""

    repository: LockedRepository
    file: LockedFile


Place: TypeAlias = Path | InRepository | LockedAddress


@dataclass(frozen=True, slots=True)
class Choice:
    """The files of one component, each with its place; `sizes` are in bytes, of the files left aside too."""

    files: ComponentFiles
    places: Mapping[str, Place]
    sizes: Mapping[str, int]


class NotLocked(KeyError):
    """The lock lacks what the choice depends on."""


def choose(config: ModelConfig, lock: Lock | None) -> Choice:
    """Return the files of `config`; the lock says what lies in repositories and at addresses.

    Raise NotLocked where it does not say, UnsupportedModel or WeightsError for a model that cannot be used, UsageError
    for weights that are not where the manifest says.
    """
    places = _listing(config.source, revision_of(config), config.subfolder, lock)
    encoding = config.quantization_encoding
    elsewhere = _weights_elsewhere(config, lock)
    files = select_files(
        places,
        config.model_path,
        trust_remote_code=config.trust_remote_code,
        encoding=None if encoding is None else str(encoding),
        weights=elsewhere is None,
    )
    if elsewhere is not None:
        clash = next((name for name in elsewhere if name in {*files.names, *files.index}), None)
        if clash is not None:
            raise UsageError(f"a weight file is called `{clash}`, as another file of `{config.model_path}` is")
        weights = tuple(name for name in elsewhere if not index_layout(name))
        files = replace(files, weights=weights, index=tuple(name for name in elsewhere if index_layout(name)))
    chosen = {name: (elsewhere or {}).get(name) or places[name] for name in (*files.names, *files.index)}
    sizes = {name: _size(place) for name, place in {**places, **chosen}.items()}
    return Choice(files, chosen, sizes)


def wanted(manifest: Manifest) -> tuple[_Pair, ...]:
    """Return the repositories and revisions that the models of `manifest` come from, each once."""
    pairs = [pair for _, config in models_of(manifest) for pair in repositories_of(config)]
    return tuple(dict.fromkeys(pairs))


def models_of(manifest: Manifest) -> Sequence[tuple[str, ModelConfig]]:
    """Return the models of `manifest` with their roles, those of every variant that a matrix makes of it."""
    return [pair for variant in manifest.variants or (manifest,) for pair in variant.models.items()]


def repositories_of(config: ModelConfig) -> tuple[_Pair, ...]:
    """Return the repositories and revisions that one model comes from, that of its configuration first."""
    pairs: list[_Pair] = []
    if isinstance(config.source, HubRepository):
        pairs.append((config.source.repo_id, revision_of(config)))
    pairs += [(repo_id, weight_revision_of(config, repo_id)) for repo_id in _weight_repositories(config)]
    return tuple(dict.fromkeys(pairs))


def addresses_of(config: ModelConfig) -> tuple[str, ...]:
    """Return the addresses outside of the hub that one model takes files from."""
    from maxbuild.manifest.weight_paths import Address  # noqa: PLC0415 - imported where there are weights elsewhere

    return tuple(source.url for source in config.weights if isinstance(source, Address))


def revision_of(config: ModelConfig) -> str:
    """Return the revision of a model's configuration, and of its weights where nothing else is said of them."""
    return config.huggingface_model_revision or DEFAULT_REVISION


def weight_revision_of(config: ModelConfig, repo_id: str) -> str:
    """Return the revision of the weights that one model takes from `repo_id`."""
    if config.huggingface_weight_revision is not None:
        return config.huggingface_weight_revision
    return revision_of(config) if config.source == HubRepository(repo_id) else DEFAULT_REVISION


def missing(manifest: Manifest, lock: Lock | None) -> tuple[_Pair, ...]:
    """Return what the hub has to be asked for: what `lock` does not pin, or lists in part only."""
    known = lock.repositories if lock else {}
    locked = {name for name, repository in known.items() if not repository.partial}
    return tuple(pair for pair in wanted(manifest) if lock_name(*pair) not in locked)


def missing_addresses(manifest: Manifest, lock: Lock | None) -> tuple[str, ...]:
    """Return the addresses of `manifest` whose content `lock` does not pin."""
    known = lock.addresses if lock else {}
    urls = dict.fromkeys(url for _, config in models_of(manifest) for url in addresses_of(config))
    return tuple(url for url in urls if url not in known)


def _weight_repositories(config: ModelConfig) -> Iterable[str]:
    """Return the repositories that weights are named to come from."""
    if not config.weights:
        weights_only = config.huggingface_weight_revision is not None
        return [config.source.repo_id] if weights_only and isinstance(config.source, HubRepository) else []
    from maxbuild.manifest.weight_paths import HubFile  # noqa: PLC0415

    return [source.repo_id for source in config.weights if isinstance(source, HubFile | HubRepository)]


def _weights_elsewhere(config: ModelConfig, lock: Lock | None) -> Mapping[str, Place] | None:
    """Return the weight files that do not lie beside the configuration, by name; None where they do."""
    if config.huggingface_weight_revision is not None and not any(_weight_repositories(config)):
        raise UsageError(
            "`huggingface_weight_revision` says nothing: the weights come from no repository of the hub",
            hint="leave it out",
        )
    if not config.weights:
        if config.huggingface_weight_revision is None:
            return None
        return _all_weights(config, config.source, lock)
    found: dict[str, Place] = {}
    for source in config.weights:
        for name, place in _weights_at(config, source, lock).items():
            if found.setdefault(name, place) != place:
                raise UsageError(
                    f"two weight files are called `{name}`", hint="name each file of `weight_path` otherwise"
                )
    check_whole((name for name in found if not index_layout(name)), "weight_path")
    return found


def _weights_at(config: ModelConfig, source: object, lock: Lock | None) -> Mapping[str, Place]:
    """Return the weight files that one entry of `weight_path` names, by the last part of their names."""
    from maxbuild.manifest.weight_paths import Address, HubFile, LocalFile  # noqa: PLC0415

    match source:
        case LocalFile(path):
            siblings: Mapping[str, Place] = dict(_folder(path.parent)) if index_layout(path.name) else {path.name: path}
            return _file_or_shards(path.name, siblings, str(path.parent))
        case HubFile(repo_id, path):
            folder, _, name = path.rpartition("/")
            place = HubRepository(repo_id)
            siblings = _listing(place, weight_revision_of(config, repo_id), folder or None, lock)
            return _file_or_shards(name, siblings, f"{repo_id}/{folder}".rstrip("/"))
        case Address(url):
            if lock is None or url not in lock.addresses:
                raise NotLocked(url)
            return {source.name: lock.addresses[url]}
        case LocalFolder() | HubRepository():
            return _all_weights(config, source, lock)
    raise TypeError(source)


def _all_weights(config: ModelConfig, source: LocalFolder | HubRepository, lock: Lock | None) -> Mapping[str, Place]:
    """Return the weights that a folder or a repository holds, as they would be chosen of the model's own."""
    # Another repository has folders of its own.
    subfolder = config.subfolder if source == config.source else None
    encoding = config.quantization_encoding
    name = source.repo_id if isinstance(source, HubRepository) else str(source.path)
    revision = weight_revision_of(config, name)
    places = _listing(source, revision, subfolder, lock)
    weights, index = select_weights(places, name, encoding=None if encoding is None else str(encoding))
    return {each: places[each] for each in (*weights, *index)}


def _file_or_shards(name: str, siblings: Mapping[str, Place], where: str) -> Mapping[str, Place]:
    """Return the file `name`, or what it lists where it is an index."""
    if name not in siblings:
        raise UsageError(f"`{where}` has no file `{name}`", hint=f"it holds {_some(siblings)}")
    if not index_layout(name):
        return {name: siblings[name]}
    shards = shards_of(name, siblings)
    if not shards:
        raise WeightsError(f"`{where}` has none of the files that `{name}` lists")
    return {each: siblings[each] for each in (*shards, name)}


def _some(names: Iterable[str]) -> str:
    shown = sorted(name for name in names if name.endswith((".safetensors", ".safetensors.index.json")))
    return ", ".join(f"`{name}`" for name in shown[:4]) + (", …" if len(shown) > 4 else "") if shown else "no weights"


def _listing(
    source: LocalFolder | HubRepository, revision: str, subfolder: str | None, lock: Lock | None
) -> Mapping[str, Place]:
    """Return the files of a folder of `source`, by their names relative to it."""
    match source:
        case LocalFolder(path):
            return dict(_folder(path / (subfolder or "")))
        case HubRepository(repo_id):
            name = lock_name(repo_id, revision)
            if lock is None or name not in lock.repositories:
                raise NotLocked(name)
            repository = lock.repositories[name]
            prefix = f"{subfolder.strip('/')}/" if subfolder else ""
            return {
                file.path.removeprefix(prefix): InRepository(repository, file)
                for file in repository.files
                if file.path.startswith(prefix)
            }


def _folder(folder: Path) -> Sequence[tuple[str, Path]]:
    try:
        found = [(entry.name, entry) for entry in sorted(folder.iterdir()) if entry.is_file()]
        # What lies deeper is no business of a model's, but for how it pools (`selection.ComponentFiles.pooling`).
        return found + [(f"{path.parent.name}/{path.name}", path) for path in sorted(folder.glob("*_Pooling/*.json"))]
    except OSError as error:
        raise UnsupportedModel(f"could not read the model folder {folder}", causes=[str(error)]) from error


def _size(place: Place) -> int:
    match place:
        case InRepository():
            return place.file.size
        case LockedAddress():
            return place.size
        case Path():
            try:
                return place.stat().st_size
            except OSError:  # the task that reads it tells what is wrong
                return 0
