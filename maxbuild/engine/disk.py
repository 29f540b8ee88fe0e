"""Disk effects: every change the engine makes to a file system goes through here, so tests can fail or kill at each.

An effect that fails raises StoreError, which names the path, the bytes needed and the bytes free.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from maxbuild.errors import StoreError

READ_ONLY = 0o444
PRIVATE_DIRECTORY = 0o700
PRIVATE_FILE = 0o600
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

before_effect: Callable[[str, Path], None] | None = None
"""Called with the name of each effect and its path before it takes place; a test sets it to raise or to kill."""


@contextmanager
def _effect(name: str, path: Path, need: int = 0) -> Iterator[None]:
    """Announce an effect on `path` that needs `need` bytes, and turn its failure into a StoreError."""
    try:
        if before_effect is not None:
            before_effect(name, path)
        yield
    except OSError as error:
        raise storage_error(error, name, path, need) from error


def is_full(error: BaseException) -> bool:
    """Return whether `error` says that a disk or a quota is full."""
    return isinstance(error, OSError) and error.errno in _FULL


def storage_error(error: OSError, doing: str, path: Path, need: int = 0) -> StoreError:
    """Return the StoreError for `error`, met while `doing` something to `path` that needs `need` bytes."""
    causes = [error.strerror or str(error)]
    if is_full(error):
        wanted = f"needs {need} bytes, " if need else ""
        causes.append(f"{wanted}{_free_bytes(path)} bytes are free there")
        hint = "free some space, or choose another disk with MAXBUILD_STORE"
    else:
        hint = "see who owns the store and may write to it, or choose another place with MAXBUILD_STORE"
    return StoreError(f"could not {doing} `{path}`", causes=causes, hint=hint)


def _free_bytes(path: Path) -> int:
    """Return the bytes free where `path` is, or would be; 0 when nobody can tell."""
    for place in (path, *path.parents):
        with suppress(OSError):
            return shutil.disk_usage(place).free
    return 0


def make_directory(path: Path) -> None:
    """Create `path` and its parents for this user alone; nothing happens where it exists."""
    if path.is_dir():
        return
    with _effect("create directory", path):
        missing = [place for place in (path, *path.parents) if not place.exists()]
        for place in reversed(missing):
            place.mkdir(exist_ok=True, mode=PRIVATE_DIRECTORY)


def restrict_directory(path: Path) -> None:
    """Take from `path` the rights of everybody but its owner; nothing happens where nobody else has any."""
    with _effect("restrict directory", path):
        if path.stat().st_mode & 0o077:
            path.chmod(PRIVATE_DIRECTORY)


def write_file(path: Path, content: bytes) -> None:
    """Write a new file for this user alone and bring it to the disk; it must not exist."""
    with _effect("write", path, len(content)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


def copy_file(source: Path, destination: Path) -> None:
    """Copy the bytes of `source` into the new file `destination`."""
    with _effect("copy to", destination, source.stat().st_size):
        shutil.copyfile(source, destination)


def seal_file(path: Path) -> None:
    """Make `path` read-only and bring its bytes to the disk."""
    with _effect("seal", path, path.stat().st_size):
        path.chmod(READ_ONLY)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Bring the names in directory `path` to the disk."""
    with _effect("sync", path):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def link(source: Path, destination: Path) -> bool:
    """Give `source` the further name `destination`; return False where that name is taken."""
    with _effect("publish", destination):
        try:
            os.link(source, destination, follow_symlinks=False)
        except FileExistsError:
            return False
    return True


def rename(source: Path, destination: Path) -> bool:
    """Rename `source`, over `destination` if that exists; return False when `source` is gone."""
    with _effect("rename", source):
        try:
            source.replace(destination)
        except FileNotFoundError:
            return False
    return True


def unlink(path: Path) -> None:
    """Remove the name `path`; nothing happens where there is none."""
    with _effect("remove", path):
        path.unlink(missing_ok=True)


def remove_tree(path: Path) -> None:
    """Remove `path` and all below it, as far as it can be: what stays is swept another time."""
    with _effect("remove", path):
        shutil.rmtree(path, ignore_errors=True)


def touch(path: Path) -> int:
    """Change `path` (created where missing) and return its change time, in nanoseconds of that file system's clock."""
    with _effect("touch", path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
        try:
            os.utime(descriptor)
            return os.fstat(descriptor).st_ctime_ns
        finally:
            os.close(descriptor)
