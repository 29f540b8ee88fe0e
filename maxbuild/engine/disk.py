"""Disk effects: every change the engine makes to a file system goes through here, so tests can fail or kill at each.

An effect that fails raises StoreError, which names the path, the bytes needed and the bytes free. The rows of the
index are SQLite's own writes: the index announces each as an effect.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import IO, TypeAlias

from maxbuild.errors import StoreError

READ_ONLY = 0o444
PRIVATE_DIRECTORY = 0o700
PRIVATE_FILE = 0o600
PUBLIC_DIRECTORY = 0o777
"""For what others may read, as far as the umask lets them."""
PUBLIC_FILE = 0o666

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FOREIGN = frozenset({errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.EACCES})
"""How opening a lock file fails where a directory, a symlink, a socket or a file without rights is in its place."""
_LOCK_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_WORTH_A_THREAD = 64 << 20
"""Bytes from which on a file is sent to the disk beside other work."""
_ENTRY = 4096
"""The bytes a new name may need: one block of its directory, or of the file system's own books."""

Moment: TypeAlias = Callable[[str, Path], None]

before_effect: Moment | None = None
"""Called with the name of each effect and its path before it takes place; a test sets it to raise or to kill."""
after_effect: Moment | None = None
"""Called in the same way once an effect has taken place."""


@contextmanager
def effect(name: str, path: Path, need: int = _ENTRY) -> Iterator[None]:
    """Announce an effect on `path` that needs `need` bytes, and turn its failure into a StoreError."""
    try:
        if before_effect is not None:
            before_effect(name, path)
        yield
        if after_effect is not None:
            after_effect(name, path)
    except OSError as error:
        raise storage_error(error, name, path, need) from error


def is_full(error: BaseException) -> bool:
    """Return whether `error` says that a disk or a quota is full, or that a file may not grow any further."""
    return isinstance(error, OSError) and error.errno in _FULL


def storage_error(error: OSError, doing: str, path: Path, need: int = 0) -> StoreError:
    """Return the StoreError for `error`, met while `doing` something to `path`; `need` is in bytes, 0 if unknown."""
    causes = [error.strerror or str(error)]
    if is_full(error):
        wanted = f"needs {need} bytes, " if need else ""
        causes.append(f"{wanted}{_room(path)} there")
    return StoreError(f"could not {doing} `{path}`", causes=causes, hint=_way_out(error))


def _way_out(error: OSError) -> str:
    if error.errno == errno.EFBIG:
        return "raise the limit on the size of files (`ulimit -f`), or choose another disk with MAXBUILD_STORE"
    if is_full(error):
        return "free some space, or choose another disk with MAXBUILD_STORE"
    return "see who owns the store and may write to it, or choose another place with MAXBUILD_STORE"


def has_room(path: Path) -> bool:
    """Return whether a file could be added where `path` is, or would be; True where nobody can tell."""
    status = _status(path)
    return status is None or (status.f_bavail > 0 and (status.f_files == 0 or status.f_favail > 0))


def _room(path: Path) -> str:
    """Return what is free where `path` is, or would be: bytes, and that no file can be added where that is so."""
    status = _status(path)
    if status is None:
        return "an unknown number of bytes are free"
    free = f"{status.f_bavail * status.f_frsize} bytes"
    return f"{free} but no inodes are free" if status.f_files and not status.f_favail else f"{free} are free"


def _status(path: Path) -> os.statvfs_result | None:
    for place in (path, *path.parents):
        with suppress(OSError):
            return os.statvfs(place)
    return None


def make_directory(path: Path, mode: int = PRIVATE_DIRECTORY) -> None:
    """Create `path` and its parents, for this user alone unless `mode` says more; nothing happens where it exists."""
    for place in _missing(path):
        with effect("create directory", place):
            place.mkdir(exist_ok=True, mode=mode)


def make_lasting_directory(path: Path) -> None:
    """Create `path` and its parents for this user alone, and bring the new names to the disk."""
    for place in _missing(path):
        with effect("create directory", place):
            place.mkdir(exist_ok=True, mode=PRIVATE_DIRECTORY)
        sync_directory(place.parent)


def _missing(path: Path) -> list[Path]:
    """Return which of `path` and its parents are not there, the outermost first."""
    places = (path, *path.parents)
    try:
        return list(takewhile(lambda place: not place.exists(), places))[::-1]
    except OSError as error:
        raise storage_error(error, "create directory", path) from error


def restrict_directory(path: Path) -> None:
    """Take from `path` the rights of everybody but its owner; nothing happens where nobody else has any."""
    with effect("restrict directory", path):
        if path.stat().st_mode & 0o077:
            path.chmod(PRIVATE_DIRECTORY)


def write_file(path: Path, content: bytes, mode: int = PRIVATE_FILE) -> None:
    """Write a new file, for this user alone unless `mode` says more, and bring it to the disk; it must not exist."""
    with effect("write", path, len(content)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


def create(path: Path, need: int) -> int:
    """Create a file for this user alone, to write up to `need` bytes into, and return it open; it must not exist."""
    with effect("write", path, need):
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)


def append(path: Path, content: bytes) -> None:
    """Add `content` to the end of a file for this user alone, made where missing, in one write."""
    with effect("append to", path, len(content)):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
        with os.fdopen(descriptor, "ab", buffering=0) as file:
            file.write(content)


def open_output(path: Path) -> IO[bytes]:
    """Open `path`, emptied, for another process to write into: what that one writes is its own."""
    make_way(path)
    with effect("open", path):
        return path.open("wb")


def make_way(path: Path) -> None:
    """Remove what lies at `path`, unless it is a plain file this process may write: a link leads elsewhere."""
    if is_foreign(path):
        if path.is_dir() and not path.is_symlink():
            remove_tree(path)
        else:
            unlink(path)


def is_foreign(path: Path) -> bool:
    """Return whether there is something at `path`, other than a file this process may read and write."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISREG(mode):
        return not os.access(path, os.R_OK | os.W_OK) and os.path.lexists(path)  # else it was removed meanwhile
    return True


def open_lock(path: Path) -> int | None:
    """Open the file `path` to lock it, made where missing; None where what is there is no file of ours."""
    with effect("lock", path):
        try:
            return os.open(path, _LOCK_FLAGS, PRIVATE_FILE)
        except OSError as error:
            if error.errno in _FOREIGN and os.path.lexists(path):
                return None
            raise


def sign_lock(path: Path, descriptor: int, content: bytes) -> None:
    """Make `content` all there is in the lock file `path`, which is open as `descriptor`; a crash may leave less."""
    with effect("sign", path, len(content)):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, content, 0)


def copy_file(source: Path, destination: Path) -> None:
    """Copy the bytes of `source` into the new file `destination`."""
    with effect("copy to", destination, _size(source)):
        from shutil import copyfile  # noqa: PLC0415 - it brings every compression along, for a rare copy

        copyfile(source, destination)


def seal_file(path: Path) -> None:
    """Make `path` read-only and bring its bytes to the disk."""
    with effect("seal", path, _size(path)):
        path.chmod(READ_ONLY)
        _sync(path, os.O_RDONLY)


def sync_file(path: Path) -> None:
    """Bring the bytes of `path` to the disk, whoever wrote them."""
    with effect("sync", path, _size(path)):
        _sync(path, os.O_RDONLY)


@contextmanager
def on_its_way(path: Path) -> Iterator[None]:
    """Have the bytes of a large file go to the disk while the context lasts; that they are there, `seal_file` says.

    This changes nothing that anybody could see, so it is no effect, and its failure is left to the one that is.
    """
    if _size(path) < _WORTH_A_THREAD:
        yield
        return
    thread = threading.Thread(target=_sync_quietly, args=(path,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _sync_quietly(path: Path) -> None:
    with suppress(OSError):
        _sync(path, os.O_RDONLY)


def sync_directory(path: Path) -> None:
    """Bring the names in directory `path` to the disk."""
    with effect("sync", path):
        _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def link(source: Path, destination: Path) -> bool:
    """Give `source` the further name `destination`; return False where that name is taken."""
    with effect("publish", destination):
        try:
            os.link(source, destination, follow_symlinks=False)
        except FileExistsError:
            return False
        return True


def rename(source: Path, destination: Path) -> bool:
    """Rename `source`, over `destination` if that exists; return False when `source` is gone."""
    with effect("rename", source):
        try:
            source.replace(destination)
        except FileNotFoundError:
            return False
        return True


def exchange(first: Path, second: Path) -> bool:
    """Exchange two paths in one step (Linux, `renameat2`); False where the system or the file system cannot."""
    import ctypes  # noqa: PLC0415 - only a package that replaces another needs it

    library = ctypes.CDLL(None)
    if not hasattr(library, "renameat2"):
        return False
    here, both = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    with effect("exchange", second):
        return bool(library.renameat2(here, os.fsencode(first), here, os.fsencode(second), both) == 0)


def unlink(path: Path) -> None:
    """Remove the name `path`; nothing happens where there is none."""
    with effect("remove", path):
        path.unlink(missing_ok=True)


def remove_tree(path: Path) -> None:
    """Remove `path` and all below it, as far as it can be: what stays is swept another time."""
    with effect("remove", path):
        from shutil import rmtree  # noqa: PLC0415 - as above

        rmtree(path, ignore_errors=True)


def touch(path: Path) -> int:
    """Change `path` (created where missing) and return its change time, in nanoseconds of that file system's clock."""
    make_way(path)
    with effect("touch", path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE_FILE)
        try:
            os.utime(descriptor)
            return os.fstat(descriptor).st_ctime_ns
        finally:
            os.close(descriptor)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _size(path: Path) -> int:
    """Return the size of `path` in bytes, 0 where it cannot be told."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
