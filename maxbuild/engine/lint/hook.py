"""The audit hook: what Python code of a step opens, lists, starts and changes, as CPython itself announces it.

It sees what goes through Python's own functions in the watched threads, and nothing that native code or another process
does. Asking whether a file exists, or what its size is, raises no event, and neither does reading the environment.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from maxbuild.engine.lint.access import Access, How

Note = Callable[[Access], None]

# Where among an event's arguments are paths that are changed, and the folders they are relative to:
# https://docs.python.org/3/library/audit_events.html.
_CHANGES: Mapping[str, tuple[tuple[int, int | None], ...]] = {
    "os.chmod": ((0, 2),),
    "os.chown": ((0, 3),),
    "os.link": ((1, 3),),
    "os.mkdir": ((0, 2),),
    "os.remove": ((0, 1),),
    "os.rename": ((0, 2), (1, 3)),
    "os.rmdir": ((0, 1),),
    "os.symlink": ((1, 2),),
    "os.truncate": ((0, None),),
    "os.utime": ((0, 3),),
    "sqlite3.connect": ((0, None),),
}
_LISTINGS = frozenset({"os.listdir", "os.scandir"})
_STARTS = frozenset({"subprocess.Popen", "os.exec", "os.posix_spawn"})
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT

_start = threading.Thread.start
_mutex = threading.Lock()
_installed = False
_watched: tuple[tuple[threading.Thread, Note], ...] = ()
"""Replaced as a whole, so that the hook reads it without a lock."""


@contextmanager
def watching(note: Note) -> Iterator[None]:
    """Tell `note` what this thread does while the context lasts, and all threads that it starts."""
    _watch(threading.current_thread(), note)
    _install()
    try:
        yield
    finally:
        global _watched  # noqa: PLW0603 - hooks are for the whole process, and so is this
        with _mutex:
            _watched = tuple(pair for pair in _watched if pair[1] is not note)


def watch_process(note: Note) -> None:
    """Tell `note` what all threads of this process do from now on."""
    noted: set[tuple[How, str]] = set()
    sys.addaudithook(lambda event, args: _see(event, args, note, noted))


def _install() -> None:
    """Add the hook, once: there is no way out again. Before Python 3.12 the start of a thread is no event."""
    global _installed  # noqa: PLW0603
    with _mutex:
        if not _installed:
            sys.addaudithook(_hook)
            threading.Thread.start = _start_watched  # type: ignore[method-assign,assignment]
            _installed = True


def _start_watched(thread: threading.Thread) -> None:
    """Start `thread`; what the thread that starts it is watched by watches it too."""
    if (note := _note_of_this_thread()) is not None:
        _watch(thread, note)
    _start(thread)


def _watch(thread: threading.Thread, note: Note) -> None:
    global _watched  # noqa: PLW0603
    with _mutex:
        _watched = (*_watched, (thread, note))


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _watched and (note := _note_of_this_thread()) is not None:
        _see(event, args, note, None)


def _note_of_this_thread() -> Note | None:
    here = threading.get_ident()
    return next((note for thread, note in _watched if thread.ident == here), None)


def _see(event: str, args: tuple[Any, ...], note: Note, noted: set[tuple[How, str]] | None) -> None:
    """Tell `note` of the paths of an event, each once where `noted` keeps account. A hook must not raise."""
    for how, given in _paths(event, args):
        path = _absolute(given)
        if path is None or (noted is not None and (how, path) in noted):
            continue
        if noted is not None:
            noted.add((how, path))
        found = os.path.exists(path)  # noqa: PTH110 - Path would raise on odd names
        if found or not _may_be_elsewhere(event, args):
            note(Access(how, path, os.path.realpath(path), "python", found))


def _may_be_elsewhere(event: str, args: tuple[Any, ...]) -> bool:
    """Return whether the event does not tell what its path is relative to: that of `os.open` leaves the folder out."""
    return event == "open" and args[1] is None and not os.path.isabs(args[0])  # noqa: PTH117


def _paths(event: str, args: tuple[Any, ...]) -> Iterator[tuple[How, Any]]:
    if event == "open":
        path, _mode, flags = args
        if isinstance(flags, int) and flags & _WRITES:
            yield How.WROTE, path
        elif not (isinstance(flags, int) and flags & os.O_PATH):
            yield How.READ, path
    elif event in _LISTINGS:
        yield How.LISTED, args[0] or "."
    elif event in _CHANGES:
        for path, folder in _CHANGES[event]:
            yield How.WROTE, args[path] if folder is None else _in_folder(args[folder], args[path])
    elif event in _STARTS:
        yield How.EXECUTED, _program(args[0])
    elif event == "ctypes.dlopen" and args[0] and os.sep in str(args[0]):
        yield How.READ, args[0]


def _in_folder(descriptor: Any, path: Any) -> Any:
    """Return `path`, which is relative to the open folder `descriptor` unless that is -1."""
    if not isinstance(descriptor, int) or descriptor < 0:
        return path
    try:
        return os.path.join(os.readlink(f"/proc/self/fd/{descriptor}"), os.fsdecode(path))  # noqa: PTH115, PTH118
    except OSError:
        return path


def _program(given: Any) -> Any:
    """Return the file of a program that may be given by its name alone."""
    return given if os.sep in os.fspath(given) else shutil.which(given) or given


def _absolute(path: Any) -> str | None:
    """Return `path` as text from the root; None for what is no path, such as an open file or a database in memory."""
    try:
        text = os.fsdecode(path)
    except TypeError:
        return None
    if not text or "\0" in text or text == ":memory:":
        return None
    return os.path.abspath(text)  # noqa: PTH100 - the working directory counts, links do not
