"""What shapes an artifact beside its inputs: versions of libraries and compilers, and our own code.

Invariant: nothing is imported to learn its version, so that finding nothing to do stays fast.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from maxbuild.targets.environment import compiler_command

# `os.path` throughout: this runs at every start, and `Path` is several times as slow.
_ROOT = os.path.dirname(os.path.dirname(__file__))
_IMPORT = re.compile(
    r"^\s*(?:from\s+(maxbuild[\w.]*)\s+import\s+(\([^)]*\)|[^\n#]+)|import\s+(maxbuild[\w.]*))", re.MULTILINE
)

_VERSION = re.compile(r"^Version:(.*)$", re.MULTILINE)

# What carries tasks out without shaping what they leave.
_BYSTANDERS = ("maxbuild.engine", "maxbuild.errors")


def library_versions(*names: str) -> Mapping[str, str]:
    """Return the installed version of each distribution; `none` where it is not installed."""
    return {name: _library_version(name) for name in names}


@functools.cache
def _library_version(name: str) -> str:
    try:
        metadata = importlib.metadata.distribution(name).read_text("METADATA") or ""
    except importlib.metadata.PackageNotFoundError:
        return "none"
    # The one line, instead of a parse of the whole: torch's metadata is long, and this runs at every start.
    found = _VERSION.search(metadata)
    return found[1].strip() if found else "unknown"


@functools.cache
def compiler_version() -> str:
    """Return name and version of the C++ compiler and of all it works with; `none` where there is no compiler.

    That is the assembler and the linker it calls, and the C library whose headers it reads: each shapes what it makes.
    """
    compiler = compiler_command()
    if compiler is None:
        return "none"
    # Started together, for this runs at every start.
    asked = [_ask_version(command) for command in (compiler, ("as",), ("ld",))]
    return "; ".join([*(_told_version(process) for process in asked), _libc_version()])


def _ask_version(command: Sequence[str]) -> subprocess.Popen[str] | None:
    try:
        return subprocess.Popen(
            [*command, "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    except OSError:
        return None


def _told_version(process: subprocess.Popen[str] | None) -> str:
    """Return the first line that `process` prints; `none` where it fails or takes longer than such a thing can."""
    if process is None:
        return "none"
    try:
        answer, _ = process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return "none"
    return answer.partition("\n")[0].strip() if process.returncode == 0 else "none"


def _libc_version() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or "none"
    except (ValueError, OSError):  # another C library than GNU's
        return "none"


@functools.cache
def code_digest(*modules: str) -> str:
    """Return the SHA-256 of the modules' source and of all of maxbuild that they import, directly or not."""
    whole = hashlib.sha256()
    for name, source in sorted(_closure(modules).items()):
        whole.update(f"{name}\0{source.digest}\0".encode())
    return whole.hexdigest()


class _Source(NamedTuple):
    """One module: the digest of its source, and the names in it that may be modules of ours."""

    digest: str
    imports: frozenset[str]


def _closure(modules: Iterable[str]) -> dict[str, _Source]:
    found: dict[str, _Source] = {}
    waiting = set(modules)
    while waiting:
        name = waiting.pop()
        source = _read_module(name)
        if source is not None:
            found[name] = source
            waiting |= source.imports - found.keys()
    return found


@functools.cache
def _read_module(name: str) -> _Source | None:
    """Read a module by name; None where it is a bystander, or the name of something inside a module."""
    if name.startswith(_BYSTANDERS):
        return None
    stem = os.path.join(_ROOT, *name.split(".")[1:])
    for path in (f"{stem}.py", os.path.join(stem, "__init__.py")):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            source = file.read()
            return _Source(hashlib.sha256(source).hexdigest(), frozenset(_imported(source.decode())))
    return None


def _imported(source: str) -> Iterator[str]:
    for package, names, module in _IMPORT.findall(source):
        yield package or module
        yield from (f"{package}.{name.strip(' ()')}" for name in names.split(",") if package and name.strip(" ()"))
