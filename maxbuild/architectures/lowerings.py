"""Lowerings of custom operators as a compile gets them: a document that `cutting` wrote, run by itself.

Invariant: a compile runs nothing of a custom architecture but what the document holds, and the document is an input of
it. So its key changes with a kernel, and not with a comment or with a model's class.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from maxbuild.architectures.operator import dense
from maxbuild.engine.task import check_output_name
from maxbuild.errors import TaskFailed
from maxbuild.targets.devices import Device
from maxbuild.targets.toolchain import library_versions

SCHEMA = "maxbuild.lowerings.v1"


class Lowering(NamedTuple):
    """A function that takes an operator's place; takes_device: it has a parameter `device`."""

    function: Callable[..., Any]
    takes_device: bool

    def for_device(self, device: Device | None) -> Callable[..., Any]:
        """Return the function as a graph calls it, with dense results."""
        function = self.function

        # A function of its own, since a graph asks for names, which partial ones lack.
        def call(*arguments: Any, **named: Any) -> Any:
            return function(*arguments, **named, device=device) if self.takes_device else function(*arguments, **named)

        return dense(call)


def read_lowerings(document: Path | None, folder: Path) -> Mapping[str, Lowering]:
    """Return the lowerings in `document`, by the operators' names in region graphs; their source goes to `folder`.

    None: the region holds no custom operator, and there are none.
    Raise TaskFailed where a library is not of the version that the trace saw, or where a function cannot be imported;
    ValueError for a document of another schema, or one whose files would leave `folder`.
    """
    if document is None:
        return {}
    content = json.loads(document.read_bytes())
    if content["schema"] != SCHEMA:
        raise ValueError(f"not lowerings of schema {SCHEMA}: {content['schema']!r}")
    _require(content["libraries"])
    for file, source in content["sources"].items():
        check_output_name(file)
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
    sys.path.insert(0, str(folder))
    return {name: Lowering(_find(name, entry), entry["takes_device"]) for name, entry in content["operators"].items()}


def _require(libraries: Mapping[str, str]) -> None:
    others = [
        f"`{name}` is {library_versions(name)[name]} here, and was {version} when the model was traced"
        for name, version in libraries.items()
        if library_versions(name)[name] != version
    ]
    if others:
        raise TaskFailed("the kernels of a custom architecture were written with other libraries", causes=others)


def _find(operator: str, entry: Mapping[str, str]) -> Callable[..., Any]:
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(entry["module"]), entry["function"])
    except Exception as error:
        raise TaskFailed(
            f"the lowering `{entry['module']}.{entry['function']}` of operator `{operator}` cannot be imported",
            causes=[f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"],
            hint="a lowering has what its own code and the definitions it names say, and nothing else of its module",
        ) from error
    return found
