"""Picking tokens by the package's samplers: what a caller asks for, chance by place, and the regions that do it.

Invariant: chance depends on the seed and the place in the text alone, never on the device or on what was drawn before.
What is picked stays on the device.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from maxbuild.errors import PackageError, UsageError
from maxbuild.runtime.model import Region, RegionCall, as_dense
from maxbuild.runtime.package import PackageHeader
from maxbuild.runtime.samplers import SAMPLE, TRUNCATE, SamplerProgram

_CPU = torch.device("cpu")

_LEAST_TEMPERATURE = 1e-5
"""Below it, scaled logits overflow; 0 is the limit, and means the likeliest token."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a token is picked from logits. temperature 0 takes the likeliest; top_k 0 and top_p 1 keep all tokens.

    top_p keeps, of what top_k keeps, the smallest set of the likeliest that has this probability.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if self.temperature != 0 and not _LEAST_TEMPERATURE <= self.temperature < math.inf:
            raise UsageError(f"temperature {self.temperature} is neither 0 nor a number from {_LEAST_TEMPERATURE} up")
        if not 0 <= self.top_k < 1 << 63:
            raise UsageError(f"top_k {self.top_k} is not a number from 0 to 2^63 - 1")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top_p {self.top_p} is not above 0 and at most 1")
        if not 0 <= self.seed < 1 << 63:
            raise UsageError(f"seed {self.seed} is not a number from 0 to 2^63 - 1")

    @property
    def truncates(self) -> bool:
        """Tell whether some tokens can be out of the question."""
        return self.top_k > 0 or self.top_p < 1


class Samplers:
    """The compiled samplers of a package, on one device, called with values by name."""

    def __init__(self, program: SamplerProgram, regions: Mapping[str, RegionCall], device: torch.device = _CPU) -> None:
        """Bind `program` to callables for its regions."""
        self.program = program
        self._regions = regions
        # A region runs on the current stream of the current device (`AOTIModelContainerRunnerCuda::run_impl`).
        self._current = torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()

    @classmethod
    def load(cls, folder: Path, header: PackageHeader, device: torch.device) -> Samplers | None:
        """Load the samplers of the package in `folder`, None where it has none; PackageError where they cannot be."""
        entry = header.samplers
        if entry is None:
            return None
        program = SamplerProgram.from_json(json.loads((folder / entry.program).read_bytes()))
        missing = [name for name in program.calls if name not in entry.regions]
        if missing:
            raise PackageError(f"the package has no region `{missing[0]}` of its samplers")
        return cls(program, {name: Region(folder / entry.regions[name], device) for name in program.calls}, device)

    def wants(self, name: str, value: str) -> bool:
        """Tell whether the sampler `name` reads the value called `value`."""
        return value in self.program.calls[name].values

    @torch.inference_mode()
    def __call__(self, name: str, values: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Return the outputs of the sampler `name`, in order; `values` are all that it reads, or more."""
        if name not in self.program.calls:
            raise PackageError(f"the package has no sampler `{name}`", hint="build it again with this version")
        arguments = [as_dense(values[value]) for value in self.program.calls[name].values]
        with self._current:
            return tuple(self._regions[name](arguments))


class Use(IntEnum):
    """What a place's random numbers are for. Each is of its own, or what is accepted would depend on what is drawn."""

    PICK = 0
    COIN = 1
    PROPOSAL = 2


def random_numbers(seed: int, length: int) -> Tensor:
    """Return numbers (uses, length) in [0, 1), float64, of 32 random bits each: the same for a place in any length.

    They are the words of SHAKE-128 of the seed, in the order of the places.
    """
    stream = hashlib.shake_128(b"maxbuild.sampling.v1/%d" % seed).digest(4 * len(Use) * length)
    words = torch.frombuffer(bytearray(stream), dtype=torch.int32).double()
    return ((words + 2.0**31) / 2.0**32).view(length, len(Use)).T.contiguous()


class Drawn(NamedTuple):
    """Tokens (1,), and the probabilities (1, vocabulary) by which they were drawn."""

    tokens: Tensor
    probabilities: Tensor


class Picker:
    """Picks the tokens of one text, up to `length`, in one way of sampling."""

    def __init__(
        self,
        sampling: Sampling,
        length: int,
        *,
        samplers: Samplers | None = None,
        device: torch.device = _CPU,
        needs_chance: bool = False,
    ) -> None:
        """Pick with `samplers`, without which the likeliest tokens alone can be picked; UsageError where that is asked.

        needs_chance: have random numbers at temperature 0 too.
        """
        self.is_greedy = sampling.temperature == 0
        if samplers is None and not self.is_greedy:
            raise UsageError("the package has no samplers", hint="leave `temperature` at 0")
        self._samplers, self._sampling = samplers, sampling
        if needs_chance or not self.is_greedy:
            self._numbers = random_numbers(sampling.seed, length).to(device)
        if not self.is_greedy:
            self.temperature = torch.full((1,), sampling.temperature, device=device)
            self._frozen = torch.zeros(1, device=device)
            self._top_k = torch.full((1,), sampling.top_k, device=device)
            self._top_p = torch.full((1,), sampling.top_p, device=device)
            self._all = torch.full((1, 1), -math.inf, device=device)

    def pick(self, logits: Tensor, place: int) -> Tensor:
        """Return the token (1,) of `place` for logits (1, vocabulary)."""
        return logits.argmax(dim=-1) if self.is_greedy else self._draw(logits, place, Use.PICK, self.temperature).tokens

    def propose(self, logits: Tensor, place: int, *, best: bool) -> Drawn:
        """Return a draft's token of `place` for its logits (1, vocabulary): the likeliest if `best`, else by chance."""
        return self._draw(logits, place, Use.PROPOSAL, self._frozen if best else self.temperature)

    def numbers(self, use: Use, place: int, count: int) -> Tensor:
        """Return the random numbers (1, count) of `place` and those after it."""
        return self._numbers[use, None, place : place + count]

    def least_logits(self, logits: Tensor) -> Tensor:
        """Return (1, places) the least logit that may be picked, for logits (1, places, vocabulary) in float32."""
        if not self._sampling.truncates:
            return self._all.expand(1, logits.shape[1])
        return self._truncate(logits, self.temperature)

    def _draw(self, logits: Tensor, place: int, use: Use, temperature: Tensor) -> Drawn:
        assert self._samplers is not None
        logits = logits.float()
        least = self._truncate(logits[None], temperature) if self._sampling.truncates else self._all
        pick = self.numbers(use, place, 1)[0]
        values = {"logits": logits, "least_logit": least, "temperature": temperature, "pick": pick}
        return Drawn(*self._samplers(SAMPLE, values))

    def _truncate(self, logits: Tensor, temperature: Tensor) -> Tensor:
        assert self._samplers is not None
        values = {"target_logits": logits, "temperature": temperature, "top_k": self._top_k, "top_p": self._top_p}
        return self._samplers(TRUNCATE, values)[0]
