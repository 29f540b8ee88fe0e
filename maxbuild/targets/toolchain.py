"""What shapes an artifact beside its inputs: versions of libraries and compilers, and our own code.

Invariant: nothing is imported to learn its version, so that finding nothing to do stays fast.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

_ROOT = Path(__file__).parent.parent
_IMPORT = re.compile(r"^\s*(?:from\s+(maxbuild[\w.]*)\s+import\s+([^\n#]+)|import\s+(maxbuild[\w.]*))", re.MULTILINE)

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
    """Return the C++ compiler's name and version; `none` where there is no compiler."""
    compiler = os.environ.get("CXX", "g++")
    path = shutil.which(compiler)
    if path is None:
        return "none"
    try:
        answer = subprocess.run([path, "--version"], capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return "none"
    return answer.stdout.partition("\n")[0].strip()


@functools.cache
def code_digest(module: str) -> str:
    """Return the SHA-256 of `module`'s source and of all of maxbuild that it imports, directly or not."""
    whole = hashlib.sha256()
    for name in sorted(_closure(module)):
        source = _source(name)
        assert source is not None
        whole.update(f"{name}\0".encode() + hashlib.sha256(source.read_bytes()).digest())
    return whole.hexdigest()


def _closure(module: str) -> set[str]:
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        source = _source(name)
        if source is not None and name not in found and not name.startswith(_BYSTANDERS):
            found.add(name)
            waiting.extend(_imported(source.read_text()))
    return found


def _imported(source: str) -> Iterator[str]:
    for package, names, module in _IMPORT.findall(source):
        yield package or module
        yield from (f"{package}.{name.strip(' ()')}" for name in names.split(",") if package)


def _source(module: str) -> Path | None:
    path = _ROOT.joinpath(*module.split(".")[1:])
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)
