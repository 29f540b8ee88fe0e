"""What a package is timed with: a step of decoding alone and in a batch, and a piece of a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from maxbuild.runtime.model import Caches, Model
from maxbuild.runtime.program import Results

_PROMPT = 512
"""Tokens that the runtime runs at once of a longer prompt."""
_CONTEXT = 1024
_BATCH = 16
_SPREAD = 7919
"""A prime: multiples of it look at all of a vocabulary, and send tokens to different experts."""


@dataclass(frozen=True, slots=True)
class Workload:
    """So many new tokens for each of so many rows, at the end of a context of so many keys.

    name: `decode 16` for as many rows, `prefill 512` for as many tokens.
    """

    name: str
    rows: int
    tokens: int
    keys: int


def workloads_of(model: Model) -> Sequence[Workload]:
    """Return what to time `model` with; its longest row bounds the context."""
    context = min(_CONTEXT, model.program.max_length)
    prompt = min(_PROMPT, model.program.max_length)
    prefill = Workload(f"prefill {prompt}", 1, prompt, prompt)
    if model.program.results is Results.EMBEDDING:
        return [prefill]
    return [
        Workload("decode 1", 1, 1, context),
        Workload(f"decode {_BATCH}", _BATCH, 1, context),
        prefill,
    ]


def run_once(model: Model, workload: Workload) -> None:
    """Run `model` once on `workload`, with the same tokens and the same context every time."""
    rows, tokens = workload.rows, workload.tokens
    numbers = torch.arange(rows * tokens, device=model.device)
    input_ids = (numbers * _SPREAD).remainder(model.program.vocab_size).view(rows, tokens)
    if model.program.results is Results.EMBEDDING:
        model.forward_embedding(input_ids, torch.full((rows,), tokens, device=model.device))
        return
    positions = model.numbers[workload.keys - tokens : workload.keys].expand(rows, -1)
    last = torch.full((rows, 1), tokens - 1, device=model.device)
    caches = model.caches(rows, workload.keys)
    _fill(caches)
    model.forward(input_ids, positions, last, caches, workload.keys)


def _fill(caches: Caches) -> None:
    """Give caches a content: attention over zeros would hide what an alternative gets wrong."""
    for tensor in caches.tensors.values():
        tensor.copy_(_waves(tensor))


def _waves(like: Tensor) -> Tensor:
    """Return numbers between -1 and 1 that repeat after 13."""
    count = torch.arange(like.numel(), device=like.device)
    return (count.remainder(13) / 6 - 1).view(like.shape)
