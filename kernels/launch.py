"""How kernels are launched: on a device, into a trace, or in Triton's interpreter.

Invariant: all launches pass here, so whatever looks at them sees every one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from torch import SymInt
from torch.library import wrap_triton
from triton.runtime.jit import JITFunction

Size = int | SymInt
"""A size that a trace may hold as a symbol."""

Launcher = Callable[[Any, tuple[Size, ...], tuple[Any, ...], Mapping[str, Any]], None]
"""Carries out the launch of a kernel: its grid, its arguments in order, and those by name with the options."""


def _launch_in_torch(kernel: Any, grid: tuple[Size, ...], args: tuple[Any, ...], options: Mapping[str, Any]) -> None:
    # With TRITON_INTERPRET=1 a kernel is of another class, which torch neither knows nor traces.
    wrapped = wrap_triton(kernel) if isinstance(kernel, JITFunction) else kernel
    wrapped[grid](*args, **options)


_launcher: ContextVar[Launcher] = ContextVar("launcher", default=_launch_in_torch)


def launch(kernel: Any, grid: tuple[Size, ...], *args: Any, **options: Any) -> None:
    """Launch `kernel`, or put the launch into the trace that is being made."""
    _launcher.get()(kernel, grid, args, options)


@contextlib.contextmanager
def launched_by(launcher: Launcher) -> Iterator[None]:
    """Let `launcher` answer all launches made in this context."""
    token = _launcher.set(launcher)
    try:
        yield
    finally:
        _launcher.reset(token)
