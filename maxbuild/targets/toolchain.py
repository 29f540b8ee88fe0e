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

# What carries tasks out without shaping what they leave.
_BYSTANDERS = ("maxbuild.engine", "maxbuild.errors")


@functools.cache
def library_versions(*names: str) -> Mapping[str, str]:
    """Return the installed version of each distribution; `none` where it is not installed."""
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "none"
    return versions


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
