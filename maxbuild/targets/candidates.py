"""Which of a kernel's configurations is compiled, where upstream would time all on the device and take the fastest.

Invariant: the answer is a function of the configurations, the sizes planned for, and the device's facts alone.

The rule: a configuration that gives every multiprocessor a program comes before one that does not; among the former
upstream's order holds, among the latter more programs come first, so that a small grid is spread as far as it can be.

Upstream lists its usual choice first (`pointwise` and `reduction` in torch/_inductor/runtime/triton_heuristics.py), so
for large grids this is its choice without timing. Whoever times the others on a device finds them in what `ranked`
returns, in the order in which they are worth a try.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from maxbuild.targets.devices import Device

Config = TypeVar("Config", bound=Any)

# Dimensions of a grid, as Inductor names them; a reduction's own dimensions (`r0_`, `r1_`) are looped over.
_GRID = ("x", "y", "z")


def ranked(configs: Sequence[Config], sizes: Mapping[str, int] | None, device: Device, first: int = 0) -> list[Config]:
    """Return `configs`, each with `kwargs` such as `{"XBLOCK": 256}`, the best first.

    sizes: how many elements the kernel is planned for along each dimension, `{"x": 8192}`; None for a kernel of ours,
    which brings one configuration. first: begin at this place of the order, for an alternative; those before it come
    last, so that a kernel with fewer configurations keeps the best.
    """
    if not sizes:
        return list(configs)

    def programs(config: Config) -> int:
        return -min(_programs(config.kwargs, sizes), device.multiprocessors)

    order = sorted(configs, key=programs)
    return order[first:] + order[:first]


def _programs(blocks: Mapping[str, int], sizes: Mapping[str, int]) -> int:
    """Return how many programs cover `sizes` in blocks; a dimension without a block has one program per element."""
    return math.prod(math.ceil(sizes[axis] / blocks.get(f"{axis.upper()}BLOCK", 1)) for axis in _GRID if axis in sizes)
