"""A device that is not there but computes: a stand-in for a GPU, which refuses what a GPU would, and counts transfers.

Its tensors say that they lie on the device `meta`, and hold a tensor of the CPU's each. An operator with tensors of
both devices fails as on a GPU, but for assignments between them, which are counted, and for scalars.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("meta")
_CPU = torch.device("cpu")
_ASSIGN = torch.ops.aten.copy_.default
_COPIES = {torch.ops.aten._to_copy.default, torch.ops.aten.to.dtype_layout, torch.ops.aten.to.device}
_WAITS = {
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.item.default,
    torch.ops.aten.is_nonzero.default,
    torch.ops.aten.equal.default,
    torch.ops.aten.nonzero.default,
    torch.ops.aten.masked_select.default,
}
"""What waits for a device until the host knows a number, a truth or a length."""


class _Pretended(torch.Tensor):
    """A tensor of the device; `held` is where its numbers are."""

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls: type[_Pretended], held: Tensor) -> _Pretended:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{function} outside of the device")


class PretendDevice(TorchDispatchMode):
    """Makes `DEVICE` a device that computes while the context lasts, and counts.

    came, went: copies from the device to the host, and to the device. waits: of the host for the device besides.
    """

    def __init__(self) -> None:
        super().__init__()
        self.came = self.went = self.waits = 0

    def __enter__(self) -> PretendDevice:
        # Tensors that are made outside of inference mode and seen within need counters that ours lack.
        self._inference = torch.inference_mode()
        self._inference.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._inference.__exit__(*error)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = dict(kwargs or {})
        given = [leaf for leaf in tree_leaves((args, named)) if isinstance(leaf, Tensor)]
        ours = any(isinstance(tensor, _Pretended) for tensor in given)
        mixed = ours and any(not isinstance(tensor, _Pretended) and tensor.dim() for tensor in given)
        assert not mixed or function is _ASSIGN, f"{function} of tensors on two devices"
        onto = named.get("device")
        lands = ours if onto is None else torch.device(onto) == DEVICE
        self.waits += ours and (function in _WAITS or _has_length_to_find(function, given))
        self.came += ours and not lands and function in _COPIES
        self.went += (lands and not ours and function in _COPIES) or mixed
        if onto is not None:
            named["device"] = _CPU
        out = function(*tree_map(_held, args), **tree_map(_held, named))
        return tree_map(lambda leaf: _Pretended(leaf) if lands and isinstance(leaf, Tensor) else leaf, out)


def _has_length_to_find(function: Any, given: list[Tensor]) -> bool:
    return function is torch.ops.aten.index.Tensor and any(tensor.dtype == torch.bool for tensor in given)


def _held(leaf: Any) -> Any:
    return leaf.held if isinstance(leaf, _Pretended) else leaf
