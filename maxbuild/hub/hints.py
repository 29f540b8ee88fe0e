"""What a file system may be told of a file that is about to grow. It may take no notice, and then nothing is lost."""

from __future__ import annotations

import ctypes
import errno
import os
from functools import lru_cache
from typing import Any, Final

_KEEP_SIZE: Final = 1  # FALLOC_FL_KEEP_SIZE: how far the file has come is still its size
_WRITE: Final = 2  # SYNC_FILE_RANGE_WRITE: begin, and do not wait
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def announce_size(descriptor: int, size: int) -> None:
    """Set room aside for a file of `size` bytes, whose size stays what it is; OSError where there is not that much.

    So a disk that is too small is told before the first byte has come. (`os.posix_fallocate` would change the size, and
    write zeros where the file system sets nothing aside.)
    """
    library = _library()
    if size and hasattr(library, "fallocate64") and library.fallocate64(descriptor, _KEEP_SIZE, 0, size):
        error = ctypes.get_errno()
        if error in _FULL:
            raise OSError(error, os.strerror(error))


def begin_writing(descriptor: int, begin: int, end: int) -> None:
    """Have the bytes from `begin` to `end` go to the disk while others come, so that the last sync finds few."""
    library = _library()
    if hasattr(library, "sync_file_range"):
        library.sync_file_range(descriptor, begin, end - begin, _WRITE)


@lru_cache(maxsize=1)
def _library() -> Any:
    library: Any = ctypes.CDLL(None, use_errno=True)
    for name, arguments in {
        "fallocate64": (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64),
        "sync_file_range": (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint),
    }.items():
        if hasattr(library, name):
            getattr(library, name).argtypes = arguments
    return library
