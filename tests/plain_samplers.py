"""The samplers as plain torch, so that what the runtime does with them shows without a compile."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from maxbuild.models.samplers import Acceptance, Sampler, make_samplers, program_of
from maxbuild.runtime.model import Model, RegionCall
from maxbuild.runtime.samplers import Strategy
from maxbuild.runtime.sampling import Samplers
from maxbuild.runtime.speculation import Markers, Speculation

CPU = torch.device("cpu")


def plain_samplers(acceptance: Acceptance | None = None, device: torch.device = CPU) -> Samplers:
    """Return the samplers of packages, computed by torch itself."""
    samplers = make_samplers(acceptance)
    regions = {name: _checked(sampler, device) for name, sampler in samplers.items()}
    return Samplers(program_of(samplers, acceptance), regions, device)


def speculation_of(
    draft: Model,
    proposals: int,
    acceptance: Acceptance | Strategy = Strategy.GREEDY,
    markers: Markers | None = None,
) -> Speculation:
    """Return speculation with `draft`, whose proposals are accepted as `acceptance` says."""
    rules = Acceptance(acceptance) if isinstance(acceptance, Strategy) else acceptance
    return Speculation(draft, proposals, plain_samplers(rules, draft.device), markers)


def _checked(sampler: Sampler, device: torch.device) -> RegionCall:
    """Return the sampler as the runtime calls it. It refuses inputs that a compiled one could not take as they are."""

    def call(inputs: list[Tensor]) -> Sequence[Tensor]:
        for name, tensor in zip(sampler.call.values, inputs, strict=True):
            assert tensor.device == device, f"`{name}` lies on {tensor.device}"
            assert tensor.is_contiguous(), f"`{name}` has gaps"
            assert tensor.storage_offset() * tensor.element_size() % 16 == 0, f"`{name}` is not aligned"
            assert str(tensor.dtype) == f"torch.{_DTYPES[name]}", f"`{name}` is {tensor.dtype}"
        return sampler(inputs)

    return call


_DTYPES = {
    **dict.fromkeys(("logits", "target_logits", "temperature", "top_p", "least_logit", "least_logits"), "float32"),
    **dict.fromkeys(("draft_probabilities", "draft_logits"), "float32"),
    **dict.fromkeys(("pick", "picks", "coins"), "float64"),
    **dict.fromkeys(("top_k", "proposed", "proposals", "markers"), "int64"),
    "thinking": "bool",
}
