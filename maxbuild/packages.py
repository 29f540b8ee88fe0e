"""Place packages: from headers in the store to directories that a server can load, by links where the disk allows them.

Invariant: a package directory appears whole or not at all, and one that is there already and right is left alone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from maxbuild.engine import Digest, Report, Store, TaskKey, disk
from maxbuild.engine.roots import add_root
from maxbuild.errors import StoreError, UsageError
from maxbuild.layout import HEADER
from maxbuild.targets.spelling import parse_target

if TYPE_CHECKING:
    from maxbuild.plan import ManifestPlan
    from maxbuild.plan.matrix import VariantPlan

_NO_LINKS = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP})
_WORTH_A_LINK = 1 << 20
"""Files outside the store that are smaller than this are copied into packages."""


def place_packages(plan: ManifestPlan | VariantPlan, report: Report, store: Store, output: Path) -> Sequence[Path]:
    """Write each package that was built to `output/NAME/TARGET` and return the paths, in the order of the targets.

    As long as a package is there, the store lets go of nothing that it was made of, however old or large that is.
    Raise StoreError where the disk refuses, and UsageError where something that is no package is in the way.
    """
    placed = []
    for target, task in plan.package_tasks().items():
        result = report.results.get(task)
        if result is not None:
            folder = output / plan.manifest.name / parse_target(target).folder
            digest = result.outputs["package"]
            _place(digest, store, folder)
            add_root(store, folder / HEADER, digest, _made_of(task, report))
            placed.append(folder)
    return placed


def packages_to_place(plan: ManifestPlan | VariantPlan, report: Report, store: Store, output: Path) -> Sequence[Path]:
    """Return which folders `place_packages` would write anew: there is no package, another one, or a damaged one."""
    to_place = []
    for target, task in plan.package_tasks().items():
        folder = output / plan.manifest.name / parse_target(target).folder
        content, blobs = parts_of(report.results[task].outputs["package"], store)
        if not _is_placed(folder, content, blobs, store):
            to_place.append(folder)
    return to_place


def _made_of(package: str, report: Report) -> list[TaskKey]:
    """Return the keys of the task `package` and of all it was made of."""
    names = report.task_graph.with_producers([package])
    return [task.key for task in report.tasks if task.name in names and task.key is not None]


def parts_of(digest: Digest, store: Store) -> tuple[bytes, Mapping[str, tuple[Digest, Path]]]:
    """Return the header of a package, and for each of its files the digest and where that content lies."""
    content = _blob(store, digest).read_bytes()
    # The header is our own `package` task's, and its digest was checked: no need for all that reads a stranger's.
    digests = {path: Digest(entry["sha256"]) for path, entry in json.loads(content)["files"].items()}
    return content, {path: (digest, _blob(store, digest)) for path, digest in digests.items()}


def _place(digest: Digest, store: Store, folder: Path) -> None:
    content, blobs = parts_of(digest, store)
    try:
        disk.make_directory(folder.parent, disk.PUBLIC_DIRECTORY)
        with _alone_in(folder.parent):
            for left_over in folder.parent.glob(f".{folder.name}.*"):
                disk.remove_tree(left_over)
            if _is_placed(folder, content, blobs, store):
                return
            if folder.exists() and not (folder / HEADER).is_file() and any(folder.iterdir()):
                raise UsageError(
                    f"`{folder}` is in the way and is no package", hint="move it, or choose another `--output`"
                )
            _write(content, blobs, store, folder)
    except (OSError, StoreError) as error:
        raise StoreError(
            f"could not write package `{folder}`",
            causes=[*_causes(error)],
            hint="free some space, or choose another `--output`" if disk.is_full(error.__cause__ or error) else None,
        ) from error


def _causes(error: OSError | StoreError) -> Sequence[str]:
    return (error.message, *error.causes) if isinstance(error, StoreError) else (str(error),)


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other builds from placing packages in `folder` while the context lasts; the kernel ends it with us."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_placed(folder: Path, content: bytes, blobs: Mapping[str, tuple[Digest, Path]], store: Store) -> bool:
    """Tell whether `folder` holds this package: a file is right if it is the blob itself, or has its digest."""
    try:
        return (folder / HEADER).read_bytes() == content and all(
            (folder / path).samefile(blob) or store.digest_of_source(folder / path) == digest
            for path, (digest, blob) in blobs.items()
        )
    except OSError:
        return False


def _write(content: bytes, blobs: Mapping[str, tuple[Digest, Path]], store: Store, folder: Path) -> None:
    """Make the package beside `folder`, bring it to the disk, then swap it in: readers of the old one keep theirs."""
    scratch = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    disk.make_directory(scratch)
    try:
        whole = scratch / "new"
        disk.make_directory(whole, disk.PUBLIC_DIRECTORY)
        for path, (digest, blob) in blobs.items():
            _link_or_copy(digest, blob, whole / path, store)
        disk.write_file(whole / HEADER, content, disk.PUBLIC_FILE)
        for place in (whole, *(path for path in whole.rglob("*") if path.is_dir())):
            disk.sync_directory(place)
        _swap_in(whole, folder, scratch / "old")
        disk.sync_directory(folder.parent)
    finally:
        disk.remove_tree(scratch)


def _link_or_copy(digest: Digest, blob: Path, path: Path, store: Store) -> None:
    """Put the blob's content at `path`: large files by a hard link where the disk allows, the rest by a copy.

    A small file that lies outside the store is the user's own, say a tokenizer, and may be edited in place; a package
    must not change with it.
    """
    disk.make_directory(path.parent, disk.PUBLIC_DIRECTORY)
    # The blob may be a symbolic link, into a hub cache; the package must not hang on that.
    source = blob.resolve()
    if source.is_relative_to(store.root.resolve()) or source.stat().st_size >= _WORTH_A_LINK:
        try:
            disk.link(source, path)
        except StoreError as error:
            if getattr(error.__cause__, "errno", None) not in _NO_LINKS:
                raise
        else:
            store.source_holds(blob, digest)  # a link moves the file's change time: know it again without reading it
            return
    disk.copy_file(source, path)
    disk.sync_file(path)


def _swap_in(new: Path, place: Path, old: Path) -> None:
    """Rename `new` to `place`; what was there is exchanged in one step where the system can, else set aside first."""
    if not place.exists():
        disk.rename(new, place)
    elif not disk.exchange(new, place):
        disk.rename(place, old)
        disk.rename(new, place)


def _blob(store: Store, digest: Digest) -> Path:
    path = store.blob_path(digest)
    if path is None:
        raise StoreError(f"blob {digest} is not in the store", hint="run `maxbuild warm` again; it is built anew")
    return path
