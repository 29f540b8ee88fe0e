"""What CPU and GPU compiles share of Inductor: its options, the vectors it sees, and how it fails.

Invariant: equal regions and targets give equal code, on any host: what Inductor would look up on this one, its
instructions and its cores, is pinned here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from maxbuild.errors import TaskFailed
from maxbuild.targets.spelling import Target

TYPICAL_SIZES: Mapping[str, int] = {
    "batch": 2,
    "sequence": 64,
    "logits": 3,
    "keys": 256,
    "cache": 512,
    "vocabulary": 131072,
}
"""The sizes that Inductor plans for where it must guess (how to split a loop among threads, say): a short prefill.
`vocabulary` is dynamic in the samplers alone, which are the same for all models."""

# The vectors that code for each level may use, by Inductor's names; below v3 it has none to offer.
_VECTORS: Mapping[str, str | None] = {"x86-64-v2": None, "x86-64-v3": "VecAVX2", "x86-64-v4": "VecAVX512"}


def options(compiler: Path) -> dict[str, Any]:
    """Return Inductor's options for every target."""
    from torch._inductor import config  # noqa: PLC0415 - costly to import

    # New in torch 2.13; before, there were no such tables.
    line_tables = {"aot_inductor.enable_line_tables": False}
    return {
        **(line_tables if line_tables.keys() <= config.get_config_copy().keys() else {}),
        "cpp.cxx": (None, str(compiler)),
        # Without this the number of cores of this host is written into every parallel loop.
        "cpp.dynamic_threads": True,
        # The target says what instructions there are; asking the compiler costs seconds.
        "cpp.vec_isa_ok": True,
        "aot_inductor.package_constants_in_so": False,
        # A precompiled header costs more than one compile gains by it, and it would outlive this process.
        "aot_inductor.precompile_headers": False,
    }


@contextlib.contextmanager
def vectors_of(level: str) -> Iterator[None]:
    """Let Inductor see the vectors of an x86-64 level in place of this host's."""
    from torch._inductor import cpu_vec_isa  # noqa: PLC0415 - costly to import

    name = _VECTORS[level]
    vectors = [] if name is None else [getattr(cpu_vec_isa, name)()]
    module: Any = cpu_vec_isa
    original: Callable[[], list[Any]] = module.valid_vec_isa_list
    module.valid_vec_isa_list = lambda: vectors
    try:
        yield
    finally:
        module.valid_vec_isa_list = original


@contextlib.contextmanager
def failing_as(target: Target, causes: Callable[[], Sequence[str]] = tuple) -> Iterator[None]:
    """Raise what goes wrong within as TaskFailed; a full disk stays what it is.

    causes: gives better reasons than the error's own text, where there are any.
    """
    try:
        yield
    except (OSError, TaskFailed):
        raise  # a full disk is the engine's to tell
    except Exception as error:
        if isinstance(error.__cause__, OSError):
            raise error.__cause__ from None
        raise TaskFailed(
            f"could not compile a region for `{target.spelling}`", causes=causes() or _causes_of(error)
        ) from error


def _causes_of(error: Exception) -> list[str]:
    """Return an error's first line and, where a compiler's output follows, the first that calls itself an error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines[1:] if "error: " in line]
    return [f"{type(error).__name__}: {lines[0] if lines else ''}", *told[:1]]
