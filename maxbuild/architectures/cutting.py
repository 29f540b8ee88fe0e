"""Cut the lowerings of custom operators out of their modules, as documents for the compiles that run them.

Invariant: equal source gives equal documents, wherever it lies; what a compile cannot depend on is not in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from maxbuild.architectures.lowerings import SCHEMA
from maxbuild.architectures.modules import distributions
from maxbuild.architectures.operator import Operator
from maxbuild.architectures.slicing import Slice
from maxbuild.errors import UnsupportedModel
from maxbuild.targets.toolchain import library_versions

LOWERINGS = "lowerings/"
"""Prefix of a trace's outputs that are lowerings: `lowerings/FAMILY/REGION`, for regions with custom operators."""

_IN_TOOLCHAIN = frozenset({"torch", "triton"})
"""Libraries whose versions are in the keys of the compiles that import them anyway."""


def lowerings_document(operators: Iterable[Operator], family: str, folder: Path) -> dict[str, Any]:
    """Return the lowerings of `operators` for a family of targets, with all source that they need.

    folder: where the modules of custom architectures lie, a folder for each. Raise UnsupportedModel where a function
    cannot be cut out of its module.
    """
    entries, sources, foreign = {}, dict[str, str](), set[str]()
    slices: dict[Path, Slice] = {}
    for operator in sorted(operators, key=lambda each: each.name):
        function = operator.lowering(family)
        root = _root_of(operator, function, folder)
        cut = slices.setdefault(root, Slice(root))
        try:
            cut.add(function.__module__, function.__qualname__)
        except LookupError as error:
            raise UnsupportedModel(
                f"operator `{operator.name}`: `{function.__qualname__}` cannot be cut out of its module",
                causes=[str(error)],
                hint="a lowering's own code must say by name what it needs",
            ) from error
        entries[operator.overload] = {
            "module": function.__module__,
            "function": function.__qualname__,
            "takes_device": "device" in function.__code__.co_varnames[: _parameters(function)],
        }
    for cut in slices.values():
        sources |= cut.sources
        foreign |= cut.foreign
    libraries = [name for name in distributions(foreign) if name not in _IN_TOOLCHAIN]
    return {
        "schema": SCHEMA,
        "operators": entries,
        "sources": sources,
        "libraries": dict(library_versions(*libraries)),
    }


def _root_of(operator: Operator, function: Callable[..., Any], folder: Path) -> Path:
    file = Path(function.__code__.co_filename)
    if not file.is_relative_to(folder):
        raise UnsupportedModel(
            f"operator `{operator.name}`: `{function.__qualname__}` is of `{function.__module__}`",
            hint="a lowering is a function of the custom architecture's own modules; write one that calls it",
        )
    return folder / file.relative_to(folder).parts[0]


def _parameters(function: Callable[..., Any]) -> int:
    return function.__code__.co_argcount + function.__code__.co_kwonlyargcount
