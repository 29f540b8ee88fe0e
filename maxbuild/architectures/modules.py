"""Find the source of a custom architecture's module, by reading it and never by importing it.

Invariant: what is found does not depend on where it lies. A file's name is its path below the folder that the module is
imported from, and the steps import from the files found here alone, so one that is missed is an error and no surprise.
"""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from os.path import isfile
from pathlib import Path

from maxbuild.errors import UsageError

_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")

_IN_TOOLCHAIN = frozenset({"maxbuild", "sympy", "torch", "transformers"})
"""Libraries whose versions are in the keys of traces and loads anyway."""

_NOT_FREE = sys.stdlib_module_names | _IN_TOOLCHAIN | {"numpy", "safetensors", "triton", "huggingface_hub"}
"""Names under which a module of somebody's own would take the place of one that everything stands on."""

_EXAMPLE = "for example `./my_architectures:my_model`, `./my_model.py`, or an installed module's name"


@dataclass(frozen=True, slots=True)
class ArchitectureModule:
    """A module that brings architectures.

    name: how it is imported, with dots. files: its source files and those of its package, by their paths below the
    folder that they are imported from (`tern/modeling.py`). libraries: the distributions beside torch and transformers
    that they import. brings: the names of the architectures it declares, as far as its source says them plainly.
    """

    name: str
    files: Mapping[str, Path]
    libraries: tuple[str, ...]
    brings: tuple[str, ...]


def find_module(text: str, folder: Path) -> ArchitectureModule:
    """Return the module that `text` names: `NAME`, `FOLDER:NAME` or `FILE.py`; paths are relative to `folder`.

    Raise UsageError where there is none, or where a source file cannot be read or is no Python.
    """
    place, colon, name = text.rpartition(":")
    if not colon and not text.endswith(".py"):
        return _installed(text, folder)
    path = folder / os.path.expanduser(place if colon else text)  # noqa: PTH111 - no error for a home that nobody has
    root, name = (path, name) if colon else (path.parent, path.stem)
    _check_name(text, name)
    start = _file_of(root, name)
    if start is None:
        raise UsageError(
            f"no such module: `{text}`", causes=[f"looked for `{name}` in {root.absolute()}"], hint=_EXAMPLE
        )
    # Of a package every file counts, whoever imports it; of a file those beside it that it imports.
    package = root / name.partition(".")[0]
    starts = [start, *_python_files(package)]
    return _read(name, root, starts, follow=lambda top: top not in _NOT_FREE)


def find_modules(texts: Sequence[str], folder: Path) -> tuple[ArchitectureModule, ...]:
    """Return the modules that `texts` name, as `find_module` does; modules of one package see all files of both.

    Raise UsageError also where two of them would be imported from different files under one name.
    """
    found: dict[str, dict[str, Path]] = {}
    modules: dict[str, ArchitectureModule] = {}
    for module in [find_module(text, folder) for text in texts]:
        files = found.setdefault(module.name.partition(".")[0], {})
        for file, path in module.files.items():
            if not files.setdefault(file, path).samefile(path):
                raise UsageError(
                    f"two custom architectures are in modules called `{module.name.partition('.')[0]}`",
                    causes=[str(files[file]), str(path)],
                )
        modules[module.name] = module
    return tuple(replace(module, files=found[name.partition(".")[0]]) for name, module in modules.items())


def _installed(text: str, folder: Path) -> ArchitectureModule:
    _check_name(text, text)
    top = text.partition(".")[0]
    root = _installed_root(top)
    start = None if root is None else _file_of(root, text)
    if root is None or start is None:
        beside = f"did you mean `.:{text}`?" if _file_of(folder, text) else _EXAMPLE
        raise UsageError(f"no module `{text}` is installed", hint=beside)
    return _read(text, root, [start], follow=lambda other: other == top)


def _installed_root(top: str) -> Path | None:
    """Return the folder that the top-level module `top` is imported from; None where there is no source of it."""
    try:
        spec = importlib.util.find_spec(top)  # imports nothing, since `top` has no parent
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).parent
    return Path(spec.origin).parent if spec.origin and spec.origin.endswith(".py") else None


def _check_name(text: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(f"`{text}` names no module", hint=_EXAMPLE)
    top = name.partition(".")[0]
    if top in _NOT_FREE:
        raise UsageError(f"custom architecture `{text}` has the name of another module, `{top}`")


def _file_of(root: Path, name: str) -> Path | None:
    stem = root.joinpath(*name.split("."))
    # `os.path` answers no where `Path` raises: a name too long for the system.
    return next((path for path in (stem / "__init__.py", stem.with_name(f"{stem.name}.py")) if isfile(path)), None)  # noqa: PTH113


def _python_files(package: Path) -> list[Path]:
    """Return every source file below a package's folder, hidden folders aside; none where there is no such folder."""
    files = []
    for parent, folders, names in os.walk(package):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__pycache__")))
        files += [Path(parent, name) for name in sorted(names) if name.endswith(".py")]
    return files


def _read(name: str, root: Path, starts: Sequence[Path], follow: Callable[[str], bool]) -> ArchitectureModule:
    """Read `starts` and all that they import below `root`, as far as `follow` says so of its top-level name."""
    files: dict[str, Path] = {}
    foreign: set[str] = set()
    brings: list[str] = []
    waiting = [*starts, *_own_files(root, name)]
    while waiting:
        path = waiting.pop(0)
        relative = path.relative_to(root).as_posix()
        if relative in files:
            continue
        files[relative] = path
        tree = _parse(path, relative)
        brings += _declared_in(tree)
        for imported in _imported_by(tree, relative):
            own = _own_files(root, imported) if follow(imported.partition(".")[0]) else []
            waiting += own
            if not own:
                foreign.add(imported.partition(".")[0])
    own_tops = {relative.partition("/")[0].removesuffix(".py") for relative in files}
    libraries = distributions(foreign - own_tops)
    return ArchitectureModule(name, dict(sorted(files.items())), libraries, tuple(sorted(set(brings))))


def _parse(path: Path, relative: str) -> ast.Module:
    try:
        return ast.parse(path.read_bytes())
    except OSError as error:
        raise UsageError(f"could not read `{path}` of a custom architecture", causes=[str(error)]) from error
    except (SyntaxError, ValueError, RecursionError) as error:
        line = getattr(error, "lineno", None) or 0
        raise UsageError(
            f"`{path}` of a custom architecture is no Python", causes=[f"{relative}:{line}: {error.args[0]}"]
        ) from error


def _imported_by(tree: ast.Module, relative: str) -> Iterator[str]:
    """Yield the absolute names of all modules, and of what may be modules, that import statements name."""
    package = relative.removesuffix(".py").removesuffix("/__init__").split("/")
    if not relative.endswith("__init__.py"):
        package.pop()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = imported_base(node, package)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def imported_base(node: ast.ImportFrom, package: Sequence[str]) -> str:
    """Return the absolute name of the module that `from … import` in a module of `package` names."""
    above = list(package[: len(package) - node.level + 1]) if node.level else []
    return ".".join([*above, *([node.module] if node.module else [])])


def _own_files(root: Path, name: str) -> list[Path]:
    """Return the files of module `name` below `root` and of its packages; of as much of the name as is a module."""
    parts = name.split(".")
    found = [_file_of(root, ".".join(parts[:length])) for length in range(1, len(parts) + 1)]
    return [path for path in found if path is not None]


def _declared_in(tree: ast.Module) -> Iterator[str]:
    """Yield the names of architectures that are declared with a plain string."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "Architecture":
            named = [keyword.value for keyword in node.keywords if keyword.arg == "name"]
            for value in [*node.args[:1], *named][:1]:
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield value.value


def distributions(modules: Iterable[str]) -> tuple[str, ...]:
    """Return the distributions that bring these modules, those aside that are in every key.

    A module that none brings stands for itself.
    """
    tops = {module.partition(".")[0] for module in modules} - sys.stdlib_module_names - _IN_TOOLCHAIN
    brought_by: Mapping[str, Sequence[str]] = {}
    found = set()
    for name in tops:
        try:
            importlib.metadata.distribution(name)  # mostly they have one name, and to read all of them takes long
        except importlib.metadata.PackageNotFoundError:
            brought_by = brought_by or importlib.metadata.packages_distributions()
            found |= set(brought_by.get(name, [name]))
        else:
            found.add(name)
    return tuple(sorted(found))
