"""Import the modules that bring custom architectures, in a process of a task's own, and check what they bring.

Invariant: only files that are given are imported: a step's inputs, or those of a package whose digests are right.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from maxbuild.architectures.declaration import Architecture
from maxbuild.errors import UnsupportedModel

ARCHITECTURES = "architectures/"
"""Prefix of inputs that are source of custom architectures: `architectures/MODULE/path/below/its/folder.py`."""

_LIST = "ARCHITECTURES"
_PAGE = "docs/custom-architectures.md shows such a module"


def lay_out_architectures(inputs: Mapping[str, Path], folder: Path) -> Path:
    """Link the source of custom architectures among `inputs` into `folder`, a folder for each module; return it."""
    for role, path in inputs.items():
        if role.startswith(ARCHITECTURES):
            link = folder / role.removeprefix(ARCHITECTURES)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
    return folder


def import_architectures(folder: Path) -> Sequence[Architecture]:
    """Import the modules in `folder`, each from the folder in it that has its name, and return what they bring.

    Raise UnsupportedModel, with the file and the line where there is one, for a module that cannot be imported, that
    has no list `ARCHITECTURES` of `Architecture`s, or whose architecture has another's name.
    """
    brought: dict[str, tuple[str, Architecture]] = {}
    for root in sorted(folder.iterdir()) if folder.is_dir() else ():
        for architecture in _import(root.name, root):
            module, _ = brought.setdefault(architecture.name, (root.name, architecture))
            if brought[architecture.name][1] is not architecture:
                raise UnsupportedModel(
                    f"two custom architectures have the name `{architecture.name}`",
                    causes=[f"one is of `{module}`, the other of `{root.name}`"],
                    hint="config.json names one architecture, so one of them must have another name",
                )
    _refuse_shared_operators([architecture for _, architecture in brought.values()])
    return [architecture for _, architecture in brought.values()]


def _import(name: str, root: Path) -> list[Architecture]:
    _forget(name.partition(".")[0])
    # First of all, so that nothing installed stands in; and for good, since functions may import when they are called.
    sys.path.insert(0, str(root))
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # a package's folder is nobody's to write into
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise _not_imported(name, root, error) from error
    finally:
        sys.dont_write_bytecode = writes
    return _checked(name, module)


def _forget(top: str) -> None:
    """Drop what this process imported under a name before: another version of it, from another folder."""
    for loaded in [name for name in sys.modules if name == top or name.startswith(f"{top}.")]:
        del sys.modules[loaded]


def _not_imported(name: str, root: Path, error: BaseException) -> UnsupportedModel:
    first = str(error).strip().partition("\n")[0]
    hint = None
    if isinstance(error, ImportError) and error.name and error.name.partition(".")[0] == name.partition(".")[0]:
        hint = "only modules that an import statement names are found beside it"
    return UnsupportedModel(
        f"the custom architecture module `{name}` cannot be imported",
        causes=[f"{_place(root, error)}{type(error).__name__}: {first}".removesuffix(": ")],
        hint=hint,
    )


def _place(root: Path, error: BaseException) -> str:
    """Return `file:line: ` of the last line of the module's own that ran, its file named as in the module's folder."""
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).is_relative_to(root):
        return f"{Path(error.filename).relative_to(root)}:{error.lineno}: "
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(root)]
    return f"{Path(own[-1].filename).relative_to(root)}:{own[-1].lineno}: " if own else ""


def _checked(name: str, module: Any) -> list[Architecture]:
    subject = f"the custom architecture module `{name}`"
    if not hasattr(module, _LIST):
        raise UnsupportedModel(f"{subject} has no list `{_LIST}`", hint=_PAGE)
    brought = getattr(module, _LIST)
    if not isinstance(brought, list | tuple) or not brought:
        raise UnsupportedModel(f"`{_LIST}` of {subject} is no list of architectures: {brought!r:.100}", hint=_PAGE)
    for number, architecture in enumerate(brought):
        entry = f"`{_LIST}[{number}]` of {subject}"
        if not isinstance(architecture, Architecture):
            kind = type(architecture).__name__
            raise UnsupportedModel(f"{entry} is no `maxbuild.architectures.Architecture` but a {kind}", hint=_PAGE)
        mistakes = list(architecture.mistakes())
        if mistakes:
            raise UnsupportedModel(f"{entry} is wrong", causes=mistakes, hint=_PAGE)
    return list(brought)


def _refuse_shared_operators(architectures: Sequence[Architecture]) -> None:
    owners: dict[str, object] = {}
    for operator in (operator for architecture in architectures for operator in architecture.operators):
        if owners.setdefault(operator.name, operator) is not operator:
            raise UnsupportedModel(f"two operators of custom architectures have the name `{operator.name}`")
