"""What the standard hub cache on this host knows of a repository; no network is used.

A cache holds what someone downloaded, so a list of it is partial unless huggingface_hub noted all that belongs to the
commit. The names of its blobs are digests, which a download verifies before the file is used.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from huggingface_hub import constants, get_cached_repo_tree
from huggingface_hub.errors import CachedRepoTreeNotFoundError
from huggingface_hub.file_download import repo_folder_name

from maxbuild.engine import hash_file
from maxbuild.errors import MaxbuildError
from maxbuild.lock import LockedFile, LockedRepository, is_commit, lock_name


def list_cached(repo_id: str, revision: str) -> LockedRepository:
    """Return the repository as the hub cache holds it; MaxbuildError where it does not, or not whole."""
    name = lock_name(repo_id, revision)
    folder = _repository(repo_id)
    commit = _commit(folder, revision)
    if commit is None:
        raise _offline(name, f"the hub cache knows no commit for it: `{folder / 'refs' / revision}` is not there")
    snapshot = folder / "snapshots" / commit
    files = {path.relative_to(snapshot).as_posix(): path for path in _files(snapshot)}
    if not files:
        raise _offline(name, f"the hub cache holds no file of commit {commit}")
    if lacking := _lacking(files):
        shown = ", ".join(f"`{path}`" for path in lacking)
        raise _offline(name, f"the hub cache lacks {shown} of commit {commit}")
    try:
        known = {file.path for file in get_cached_repo_tree(repo_id, revision=commit)}
    except CachedRepoTreeNotFoundError:
        known = set()
    try:
        locked = tuple(_file(path, place) for path, place in files.items())
        return LockedRepository(repo_id, revision, commit, locked, partial=not known or not known <= files.keys())
    except (OSError, ValueError) as error:
        raise MaxbuildError(
            f"cannot use what the hub cache holds of `{name}`",
            causes=[f"{snapshot}: {error}"],
            hint="remove that folder, and download it again where there is network",
        ) from error


def cached_place(repo_id: str, commit: str, path: str, size: int) -> Path | None:
    """Return where the hub cache holds the file `path` of a commit, None where it does not, or not whole."""
    place = _repository(repo_id) / "snapshots" / commit / path
    try:
        return place if place.stat().st_size == size else None
    except OSError:
        return None


def note_revision(repo_id: str, revision: str, commit: str) -> None:
    """Let other programs find `commit` under the name of `revision` in the hub cache, where they find nothing yet.

    A note that is there stays: it is what the hub said last, and whoever asks the hub renews it.
    """
    place = _repository(repo_id) / "refs" / revision
    if is_commit(revision) or place.exists():
        return
    with suppress(OSError):  # the files are there, with or without the note
        place.parent.mkdir(parents=True, exist_ok=True)
        scratch = place.with_name(f"{place.name}.{secrets.token_hex(4)}")
        scratch.write_text(commit, "ascii")
        scratch.replace(place)


def _repository(repo_id: str) -> Path:
    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo_id, repo_type=constants.REPO_TYPE_MODEL)


def _commit(folder: Path, revision: str) -> str | None:
    if is_commit(revision):
        return revision
    try:
        text = (folder / "refs" / revision).read_text("ascii").strip()
    except (OSError, ValueError):
        return None
    return text if is_commit(text) else None


def _files(snapshot: Path) -> list[Path]:
    """Return the files of a snapshot, also links to what is gone."""
    return [path for path in snapshot.rglob("*") if path.is_symlink() or path.is_file()]


def _lacking(files: Mapping[str, Path]) -> list[str]:
    """Return the files that are not whole here: links to nothing, and weight files that only an index knows."""
    lacking = {path for path, place in files.items() if not place.exists()}
    for path, place in files.items():
        if path.endswith(".safetensors.index.json") and path not in lacking:
            prefix = path.rpartition("/")[0]
            named = (f"{prefix}/{shard}" if prefix else shard for shard in _shards(place))
            lacking |= {shard for shard in named if shard not in files}
    return sorted(lacking)


def _shards(index: Path) -> set[str]:
    """Return the weight files that an index names; none where it cannot be read, which `load` will say."""
    try:
        match json.loads(index.read_bytes()):
            case {"weight_map": dict(places)}:
                return {str(shard) for shard in places.values()}
    except (OSError, ValueError):
        pass
    return set()


def _file(path: str, place: Path) -> LockedFile:
    size = place.stat().st_size
    # One step of the link, not its end: where the cache shares blobs between repositories, the end has another name.
    name = ""
    if place.is_symlink():
        target = Path(os.path.normpath(place.parent / place.readlink()))
        if not target.is_relative_to(os.path.normpath(constants.HF_HUB_CACHE)):
            raise ValueError(f"`{path}` is a link that leaves the cache, to {target}")
        name = target.name
    if re.fullmatch(r"[0-9a-f]{64}", name):
        return LockedFile(path, size, name, None)
    if re.fullmatch(r"[0-9a-f]{40}", name):
        return LockedFile(path, size, None, name)
    return LockedFile(path, size, hash_file(place), None)


def _offline(name: str, cause: str) -> MaxbuildError:
    return MaxbuildError(
        f"cannot pin `{name}`: HF_HUB_OFFLINE is set and there is no lock for it",
        causes=[cause],
        hint=(
            "do one of these:\n"
            "- unset HF_HUB_OFFLINE and run once with network, which writes the lock beside the manifest\n"
            "- bring the lock that another host wrote, and that host's hub cache\n"
            f"- download it where there is network: `hf download {name.partition('@')[0]}"
            f" --revision {name.partition('@')[2]}`, and point HF_HOME there"
        ),
    )
