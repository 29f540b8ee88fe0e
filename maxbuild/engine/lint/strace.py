"""strace: what all processes of an isolated task ask of the system, native code and compilers included.

The trace is text, one call a line; calls that others interrupt come in two parts. Descriptors come with the path they
stand for (`-y`), so the result of an open tells where links led.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from maxbuild.engine.lint.access import Access, How

_OPENS = frozenset({"open", "openat", "openat2", "creat"})
_STARTS = frozenset({"execve", "execveat"})
_FORKS = frozenset({"clone", "clone3", "fork", "vfork"})
_CHANGES_FIRST = frozenset({"mkdir", "mkdirat", "rmdir", "truncate", "unlink", "unlinkat"})
_CHANGES_LAST = frozenset({"link", "linkat", "symlink", "symlinkat"})
_CHANGES_BOTH = frozenset({"rename", "renameat", "renameat2"})
_CALLS = _OPENS | _STARTS | _FORKS | _CHANGES_FIRST | _CHANGES_LAST | _CHANGES_BOTH

_LINE = re.compile(r"(\d+) +(.*)")
_UNFINISHED = " <unfinished ...>"
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>(.*)")
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+)(?:<(.*)>)?(?: (E\w+))?")
_PATH = re.compile(r'(?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"((?:[^"\\]|\\.)*)"')
_WRITES = re.compile(r"\bO_(?:WRONLY|RDWR|CREAT)\b")
_DELETED = " (deleted)"


@functools.cache
def find_strace() -> str | None:
    """Return the path of a strace that works here; None where there is none, or where tracing is not allowed."""
    program = shutil.which("strace")
    if program is None:
        return None
    command = [*_command(program, Path(os.devnull)), "true"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return program if done.returncode == 0 else None


def traced(program: str, command: Iterable[str], trace: Path) -> list[str]:
    """Return the command that runs `command` and leaves the trace of it and all it starts in the file `trace`."""
    return [*_command(program, trace), "--", *command]


def _command(program: str, trace: Path) -> list[str]:
    # -D: the tracer is no parent of the step, so the step's process is the one that was started, and ends as itself.
    options = ["-D", "-f", "-qq", "-y", "--seccomp-bpf", "-e", "signal=none", "-e", f"trace={','.join(sorted(_CALLS))}"]
    return [program, *options, "-o", os.fspath(trace)]


def read_trace(trace: Path, cwd: Path) -> Iterator[Access]:
    """Return the accesses in the file `trace` of a process that began in `cwd`."""
    try:
        with trace.open(encoding="ascii", errors="surrogateescape") as lines:
            yield from parse(lines, cwd)
    except FileNotFoundError:
        return


def parse(lines: Iterable[str], cwd: Path) -> Iterator[Access]:
    """Return the accesses that the lines of a trace tell; lines that are something else are passed over."""
    reader = _Reader(os.fspath(cwd))
    for line in lines:
        if (found := _LINE.match(line)) is not None:
            yield from reader.take(int(found[1]), found[2].rstrip("\n"))


@dataclass
class _Reader:
    """What is known of the processes of a trace."""

    cwd: str
    programs: dict[int, str] = field(default_factory=dict)
    parents: dict[int, int] = field(default_factory=dict)
    begun: dict[int, str] = field(default_factory=dict)

    def take(self, pid: int, text: str) -> Iterator[Access]:
        """Go on with a line of process (or thread) `pid`."""
        if text.endswith(_UNFINISHED):
            self.begun[pid] = text.removesuffix(_UNFINISHED)
            return
        if (rest := _RESUMED.match(text)) is not None:
            text = self.begun.pop(pid, "") + rest[1]
        call = _CALL.match(text)
        if call is None:
            return
        name, arguments, status, result, error = call.groups()
        if name in _FORKS and int(status) > 0:
            self.parents[int(status)] = pid
        elif error in (None, "ENOENT", "ENOTDIR"):
            yield from self._accesses(pid, name, arguments, result, found=error is None)

    def _accesses(self, pid: int, name: str, arguments: str, result: str | None, *, found: bool) -> Iterator[Access]:
        paths = [(self._join(folder, path), end) for folder, path, end in _named(arguments)]
        if not paths:
            return
        if name in _OPENS:
            path, end = paths[0]
            how = _how_opened(name, arguments[end:], path)
            if how is not None:
                real = _decode(result).removesuffix(_DELETED) if found and result else path
                yield Access(how, path, real, self._program(pid), found)
        elif name in _STARTS:
            path, _ = paths[0]
            if found:
                self.programs[pid] = Path(path).name
            yield Access(How.EXECUTED, path, os.path.realpath(path), self._program(pid), found)
        elif found:
            changed = paths if name in _CHANGES_BOTH else paths[-1:] if name in _CHANGES_LAST else paths[:1]
            for path, _ in changed:
                folder, last = os.path.split(path)  # the path itself may be gone, or be a link that was made
                yield Access(How.WROTE, path, f"{os.path.realpath(folder)}/{last}", self._program(pid), True)

    def _join(self, folder: str, path: str) -> str:
        return os.path.normpath(Path(folder or self.cwd, path))

    def _program(self, pid: int) -> str:
        """Return the name of the program that `pid`, or the nearest of its parents, was last told to run."""
        seen = {pid}  # numbers are used again, so a line of parents can come back to itself
        while pid not in self.programs:
            parent = self.parents.get(pid, self._forking())
            if parent is None or parent in seen:
                return "?"
            seen.add(parent)
            pid = parent
        return self.programs[pid]

    def _forking(self) -> int | None:
        """Return which process is about to have a child, where that is clear: a child may be faster than its line."""
        forking = [pid for pid, text in self.begun.items() if text.partition("(")[0] in _FORKS]
        return forking[0] if len(forking) == 1 else None


def _named(arguments: str) -> Iterator[tuple[str, str, int]]:
    """Return each path among `arguments`: the folder it is relative to, itself, and where it ends."""
    for found in _PATH.finditer(arguments):
        yield _decode(found[1] or ""), _decode(found[2]), found.end()


def _how_opened(name: str, flags: str, path: str) -> How | None:
    if name == "creat" or _WRITES.search(flags):
        return How.WROTE
    if "O_PATH" in flags:
        return None
    return How.LISTED if "O_DIRECTORY" in flags or path.endswith("/") else How.READ


def _decode(text: str) -> str:
    """Return the path that strace wrote as the inside of a C string."""
    return os.fsdecode(text.encode("ascii", "surrogateescape").decode("unicode_escape").encode("latin-1"))
