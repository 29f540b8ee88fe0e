"""Place packages: from headers in the store to directories that a server can load, by links where the disk allows them.

Invariant: a package directory appears whole or not at all, and one that is there already and right is left alone.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from maxbuild.engine import Digest, Report, Store
from maxbuild.errors import StoreError, UsageError
from maxbuild.plan import ManifestPlan
from maxbuild.runtime.package import HEADER, PackageHeader
from maxbuild.targets.spelling import parse_target


def place_packages(plan: ManifestPlan, report: Report, store: Store, output: Path) -> Sequence[Path]:
    """Write each package that was built to `output/NAME/TARGET` and return the paths, in the order of the targets.

    Raise StoreError where the disk refuses, and UsageError where something that is no package is in the way.
    """
    placed = []
    for target, task in plan.package_tasks().items():
        result = report.results.get(task)
        if result is not None:
            folder = output / plan.manifest.name / parse_target(target).folder
            _place(result.outputs["package"], store, folder)
            placed.append(folder)
    return placed


def _place(digest: Digest, store: Store, folder: Path) -> None:
    content = _blob(store, digest).read_bytes()
    header = PackageHeader.from_json(json.loads(content))
    if _is_placed(folder, content, header):
        return
    if folder.exists() and not (folder / HEADER).is_file() and any(folder.iterdir()):
        raise UsageError(f"`{folder}` is in the way and is no package", hint="move it, or choose another `--output`")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _write(content, header, store, folder)
    except OSError as error:
        raise StoreError(
            f"could not write package `{folder}`",
            causes=[str(error)],
            hint="free some space, or choose another `--output`" if error.errno == errno.ENOSPC else None,
        ) from error


def _is_placed(folder: Path, content: bytes, header: PackageHeader) -> bool:
    """Tell whether `folder` holds this package, by its header and the size of each file."""
    try:
        return (folder / HEADER).read_bytes() == content and all(
            (folder / path).stat().st_size == entry.size for path, entry in header.files.items()
        )
    except OSError:
        return False


def _write(content: bytes, header: PackageHeader, store: Store, folder: Path) -> None:
    """Make the package beside `folder`, then swap it in: readers of the old one keep what they have open."""
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        whole = scratch / "new"
        for path, entry in header.files.items():
            _link_or_copy(_blob(store, Digest(entry.sha256)), whole / path)
        (whole / HEADER).write_bytes(content)
        if folder.exists():
            folder.rename(scratch / "old")
        whole.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _link_or_copy(blob: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # The blob may be a link itself, into a hub cache; the package must not hang on that.
        os.link(blob.resolve(), path)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
            raise
        shutil.copyfile(blob, path)


def _blob(store: Store, digest: Digest) -> Path:
    path = store.blob_path(digest)
    if path is None:
        raise StoreError(f"blob {digest} is not in the store", hint="run `maxbuild warm` again; it is built anew")
    return path
