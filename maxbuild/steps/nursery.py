"""What isolated steps import before anything else, once for all of them: each function here is a kind's `preload`.

Invariant: nothing is imported that a step of the kind would not import, in the order in which it would, and in the same
environment. What no key names (transformers, for a compile) stays out of its process.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from maxbuild.targets.environment import clear_environment, use_folder


def for_models() -> Callable[[], None]:
    """Import what `trace` and `load` begin with."""
    return _preload("maxbuild.models.architecture")


def for_compiles() -> Callable[[], None]:
    """Import what a `compile` begins with, for whichever target."""
    return _preload(
        "maxbuild.models.graph",
        "maxbuild.models.export",
        "torch._inductor",
        "torch.export._trace",
        "torch._inductor.compile_fx",
    )


def _preload(*modules: str) -> Callable[[], None]:
    place = tempfile.gettempdir()
    clear_environment()
    use_folder(Path(place) / "inductor")  # torch makes it when it is imported
    for module in modules:
        importlib.import_module(module)
    return partial(_settle, place)


def _settle(before: str) -> None:
    """Give this process random numbers of its own, and the folders that torch chose under `before` a place of its own.

    torch names them when it is imported, for features that no step uses: compiled bytecode, precompiled headers, and
    profiles. Python's own random numbers are made new by every fork; torch's start from the same seed in every process.
    """
    import numpy  # noqa: PLC0415 - torch has brought it

    numpy.random.seed()
    now = tempfile.gettempdir()
    holders = [
        getattr(sys.modules.get("torch._dynamo.package"), "DynamoCache", None),
        sys.modules.get("torch._inductor.codecache"),
        sys.modules.get("torch._inductor.wrapper_benchmark"),
    ]
    for holder in filter(None, holders):
        for name, value in list(vars(holder).items()):
            if isinstance(value, str) and value.startswith(before):
                setattr(holder, name, now + value.removeprefix(before))
