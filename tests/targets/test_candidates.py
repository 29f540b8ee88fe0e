"""Which configuration of a kernel is compiled where nothing can be timed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxbuild.targets.candidates import ranked
from maxbuild.targets.devices import Device, device_of
from maxbuild.targets.spelling import parse_target

H100 = device_of(parse_target("cuda:sm_90"))
"""132 multiprocessors."""


def config(**blocks: int) -> SimpleNamespace:
    """Return a configuration as Triton's are: blocks by name."""
    return SimpleNamespace(kwargs=blocks)


WIDE, NARROW = config(XBLOCK=256), config(XBLOCK=128)


@pytest.mark.parametrize(
    ("elements", "first"),
    [
        (1 << 20, WIDE),  # both give every multiprocessor a program
        (256 * 132, WIDE),  # 132 programs and 264
        (256 * 131, NARROW),  # 131 programs leave one idle
        (128, WIDE),  # one program each
    ],
)
def test_upstreams_first_is_taken_unless_it_leaves_multiprocessors_idle(elements: int, first: SimpleNamespace) -> None:
    """Where the grid is large upstream's order holds; a small grid is spread over as many programs as can be."""
    assert ranked([WIDE, NARROW], {"x": elements}, H100)[0] is first


def test_loops_of_a_reduction_are_no_part_of_the_grid() -> None:
    """Only rows become programs, whatever the length of the loop."""
    long, short = config(XBLOCK=8, R0_BLOCK=1024), config(XBLOCK=8, R0_BLOCK=64)
    assert ranked([long, short], {"x": 64, "r0_": 4096}, H100)[0] is long


def test_two_dimensions_of_a_grid_multiply() -> None:
    """Tiles count along both."""
    coarse, fine = config(XBLOCK=64, YBLOCK=64), config(XBLOCK=32, YBLOCK=32)
    assert ranked([coarse, fine], {"x": 256, "y": 256}, H100)[0] is fine


def test_a_kernel_without_sizes_keeps_its_order() -> None:
    """Kernels that are not Inductor's bring what they want."""
    assert ranked([NARROW, WIDE], None, H100) == [NARROW, WIDE]


@pytest.mark.parametrize(("first", "taken"), [(0, WIDE), (1, NARROW), (2, WIDE), (7, WIDE)])
def test_an_alternative_begins_further_back_and_a_kernel_with_fewer_keeps_its_best(
    first: int, taken: SimpleNamespace
) -> None:
    """Rank 1 is the next best; where there is none of a rank, the order is that without alternatives."""
    order = ranked([WIDE, NARROW], {"x": 1 << 20}, H100, first)
    assert order[0] is taken
    assert sorted(map(id, order)) == sorted(map(id, [WIDE, NARROW]))
    assert ranked([WIDE], {"x": 1 << 20}, H100, first) == [WIDE]


@given(
    st.lists(st.integers(0, 10).map(lambda power: 1 << power), min_size=1),
    st.integers(1, 1 << 24),
    st.sampled_from(["cuda:sm_80", "cuda:sm_120", "hip:gfx942"]).map(lambda text: device_of(parse_target(text))),
)
def test_no_candidate_is_lost_and_none_keeps_more_multiprocessors_busy(
    blocks: list[int], elements: int, device: Device
) -> None:
    """All stay, for whoever can time them; the first keeps as many multiprocessors busy as any."""
    configs = [config(XBLOCK=block) for block in blocks]
    order = ranked(configs, {"x": elements}, device)
    assert sorted(map(id, order)) == sorted(map(id, configs))

    def busy(block: int) -> int:
        return min(-(-elements // block), device.multiprocessors)

    assert busy(order[0].kwargs["XBLOCK"]) == max(map(busy, blocks))
