"""Tern, a small decoder of its own, with one operator of its own: add a residual, normalize the sum."""

from __future__ import annotations

from maxbuild.architectures import Architecture

from .configuration import TernConfig
from .modeling import TernForCausalLM
from .operators import add_rms_norm

ARCHITECTURES = [
    Architecture(
        name="TernForCausalLM",
        config=TernConfig,
        model=TernForCausalLM,
        blocks="model.layers",
        operators=(add_rms_norm,),
    ),
]
