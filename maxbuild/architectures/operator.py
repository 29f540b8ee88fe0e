"""Operators of a custom architecture: opaque to a trace, and lowered for each target when it is compiled."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

_NAME = re.compile(r"[a-z_][a-z0-9_]*::[a-z_][a-z0-9_]*")

_TAKEN = frozenset({"aten", "prims", "prim", "maxbuild", "torch", "c10d", "inductor", "higher_order", "quantized"})
"""Namespaces in which torch or maxbuild keeps operators of its own."""


@dataclass(frozen=True, slots=True, eq=False)
class Operator:
    """One operator, called like its reference.

    name: `namespace::operator`, in lower case. reference: a function of a module's own, in plain torch, with a type for
    each parameter (`Tensor`, `int`, `float`, `bool`, `Tensor | None`, …) and for what it returns (a `Tensor` or a
    `tuple` of them). It says what the operator computes: eager models run it, and shapes are worked out with it. It
    changes none of its arguments and asks for no value of a tensor. cpu: what is compiled for CPUs, called like the
    reference; None: the reference itself. gpu: what is compiled for GPUs, called like the reference; if it has a
    parameter `device`, it gets the target's `Device` there, by name. None: the reference itself.

    What an operator returns is dense; where a function returns another layout, a copy is made. Raise ValueError for a
    name of another form or in a namespace of torch's, and TypeError for what is no function of a module's own.
    """

    name: str
    reference: Callable[..., Any]
    cpu: Callable[..., Any] | None = None
    gpu: Callable[..., Any] | None = None
    _call: Callable[..., Any] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Make it known to torch."""
        import torch  # noqa: PLC0415 - costly to import

        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ValueError(f"an operator's name is `namespace::operator` in lower case, not {self.name!r}")
        if self.name.partition("::")[0] in _TAKEN:
            raise ValueError(f"operator `{self.name}`: the namespace is not free")
        for function in (self.reference, self.cpu, self.gpu):
            if function is not None:
                _require_own_function(self.name, function)
        try:
            schema = torch.library.infer_schema(self.reference, mutates_args=())
        except (ValueError, NameError) as error:
            raise TypeError(f"operator `{self.name}`: {_first_line(error)}") from error
        made = torch.library.custom_op(self.name, dense(self.reference), mutates_args=(), schema=schema)
        made.register_fake(dense(self.reference))
        object.__setattr__(self, "_call", made)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call the operator: eager, the reference runs; in a trace, one node."""
        return self._call(*arguments, **named)

    @property
    def overload(self) -> str:
        """Return the name by which region graphs know it: `namespace.operator.default`."""
        return f"{self.name.replace('::', '.')}.default"

    def lowering(self, family: str) -> Callable[..., Any]:
        """Return the function that is compiled for a family of targets, `cpu` or `gpu`."""
        return {"cpu": self.cpu, "gpu": self.gpu}[family] or self.reference


def _require_own_function(name: str, function: Any) -> None:
    """Refuse what could not be found again by its name: a lambda, a method, a partial, a function in a function."""
    qualified = getattr(function, "__qualname__", None)
    if not hasattr(function, "__code__") or qualified is None or not qualified.isidentifier():
        raise TypeError(f"operator `{name}`: {function!r} is no function at the top of a module")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def dense(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function like `function` whose tensors are laid out densely.

    Regions agree on values by shape alone, so a lowering must not choose a layout.
    """
    from torch.utils import _pytree as pytree  # noqa: PLC0415 - costly to import

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        return pytree.tree_map(lambda tensor: tensor.contiguous(), function(*arguments, **named))

    return call


def launch(kernel: Any, grid: tuple[Any, ...], *arguments: Any, **options: Any) -> None:
    """Launch a Triton kernel in a `gpu` function.

    kernel: a function under `@triton.jit`. grid: one to three sizes, which may be symbols: compute them with `+`, `-`,
    `*`, `//`, `torch.sym_min` and `torch.sym_max`, and ask for the value of none. arguments: the kernel's, in order.
    options: its constants by name, and `num_warps`, `num_stages`.
    """
    from maxbuild.kernels.launch import launch as launch_kernel  # noqa: PLC0415 - imports Triton

    launch_kernel(kernel, grid, *arguments, **options)
