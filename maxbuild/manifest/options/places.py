"""Where options stand: at a manifest's top, under a role, in a section, or on the command line alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

TOP: Final = ""
ROLE: Final = "models.ROLE"
SPECULATIVE: Final = "speculative"
COMPILE: Final = "compile"
KV_CACHE: Final = "kv_cache"
SAMPLING: Final = "sampling"
LORA: Final = "lora"
PARALLEL: Final = "parallel"
DENOISING: Final = "denoising_cache"
RUNTIME: Final = "runtime"
COMMAND_LINE: Final = "the command line"

PLACES: Final[Mapping[str, str]] = {
    TOP: "What to build, and for what.",
    ROLE: "One model under its role.",
    SPECULATIVE: "Speculative decoding: how the draft's tokens come about and how they are accepted.",
    COMPILE: "What the code for a target is like, beyond what the graphs say.",
    KV_CACHE: "The cache of keys and values: what it is, and how a server may use it.",
    SAMPLING: "What samplers are given.",
    LORA: "Adapters.",
    PARALLEL: "Several devices for one model.",
    DENOISING: "Steps that diffusion models may skip.",
    RUNTIME: "What a server does with the package; it is written into the package and shapes no artifact.",
    COMMAND_LINE: "What only a command line can say.",
}
"""Every place, with what its options are about, in the order in which people meet them."""

SECTIONS: Final = tuple(place for place in PLACES if place not in {TOP, ROLE, COMMAND_LINE})
