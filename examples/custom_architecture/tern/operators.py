"""Tern's one operator: what it computes, in plain torch, and the kernel that computes it on GPUs."""

from __future__ import annotations

import torch
from torch import Tensor

from maxbuild.architectures import Device, Operator, launch

from .kernels import add_rms_norm_kernel


def add_rms_norm_plainly(update: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return (RMSNorm of update + residual, update + residual).

    update, residual: (…, hidden), of one shape and dtype; weight: (hidden,). The sum is rounded to their dtype, and
    the norm of what was rounded is computed in float32.
    """
    total = update + residual
    wide = total.float()
    scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return (wide * scale * weight.float()).to(total.dtype), total


def add_rms_norm_on_gpu(
    update: Tensor, residual: Tensor, weight: Tensor, eps: float, *, device: Device
) -> tuple[Tensor, Tensor]:
    """Compute `add_rms_norm` with one kernel, which reads and writes each number once; a program for each row."""
    hidden = update.shape[-1]
    rows = update.numel() // hidden
    update, residual = update.contiguous(), residual.contiguous()
    normalized, total = torch.empty_like(update), torch.empty_like(update)
    block = 1 << (hidden - 1).bit_length()
    launch(
        add_rms_norm_kernel,
        (rows, 1, 1),
        *(normalized, total, update, residual, weight),
        HIDDEN=hidden,
        BLOCK=block,
        EPS=eps,
        num_warps=max(1, min(8, block // (8 * device.warp_size))),
    )
    return normalized, total


add_rms_norm = Operator("tern::add_rms_norm", reference=add_rms_norm_plainly, gpu=add_rms_norm_on_gpu)
