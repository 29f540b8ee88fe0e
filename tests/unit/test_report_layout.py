"""The layout of pictures, whatever the graph: nothing overlaps, every arrow goes to the right."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from maxbuild.report.layout import Heights, generations, lay_out, spread

HEIGHTS = Heights(box=60, passing=16)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[str], list[tuple[str, str]]]:
    """Draw a graph without cycles: arrows go from lower to higher numbers."""
    names = [f"t{index}" for index in range(draw(st.integers(1, 14)))]
    pairs = [(a, b) for index, a in enumerate(names) for b in names[index + 1 :]]
    return names, draw(st.lists(st.sampled_from(pairs), unique=True, max_size=30)) if pairs else []


@given(graphs())
def test_nothing_overlaps_and_all_fits(graph: tuple[list[str], list[tuple[str, str]]]) -> None:
    """In a column things keep the room they need, all of it between the top and the bottom of the layout."""
    names, arrows = graph
    columns = generations(names, arrows)
    layout = lay_out(columns, arrows, HEIGHTS)
    assert sorted(name for column in layout.columns for name in column) == sorted(names)
    assert all(columns[a] < columns[b] for a, b in arrows)
    for index in range(len(layout.columns)):
        things = sorted(
            (middle, HEIGHTS.box if isinstance(item, str) else HEIGHTS.passing)
            for item, middle in layout.middles.items()
            if (columns[item] if isinstance(item, str) else item[2]) == index
        )
        assert all(b[0] - a[0] >= (a[1] + b[1]) / 2 - 1e-6 for a, b in pairwise(things))
        assert things[0][0] - things[0][1] / 2 >= -1e-6
        assert things[-1][0] + things[-1][1] / 2 <= layout.height + 1e-6


@given(graphs())
def test_an_arrow_passes_each_column_between_its_ends(graph: tuple[list[str], list[tuple[str, str]]]) -> None:
    """The route of an arrow has one point per column, from the box it leaves to the one it enters."""
    names, arrows = graph
    columns = generations(names, arrows)
    routes = lay_out(columns, arrows, HEIGHTS).routes
    assert routes.keys() == set(arrows)
    assert all((route[0], route[-1]) == ends for ends, route in routes.items())
    assert all(len(route) == columns[b] - columns[a] + 1 for (a, b), route in routes.items())


@given(st.lists(st.tuples(st.floats(-1000, 1000), st.floats(1, 100)), min_size=1, max_size=20))
def test_spread_keeps_order_and_room(wanted: list[tuple[float, float]]) -> None:
    """Things pushed apart keep their order and their room, and on the whole stay where they wanted to be."""
    wishes, rooms = [want for want, _ in wanted], [room for _, room in wanted]
    places = spread(wishes, rooms)
    gaps = zip(pairwise(places), pairwise(rooms), strict=True)
    assert all(b - a >= (room_a + room_b) / 2 - 1e-6 for (a, b), (room_a, room_b) in gaps)
    assert abs(sum(places) - sum(wishes)) < 1e-6 * max(1, len(places)) * 1000


def test_spread_leaves_alone_what_has_room() -> None:
    """Where nothing is in the way everything is where it wants to be."""
    assert spread([0, 100, 200], [10, 10, 10]) == [0, 100, 200]


def test_crossings_are_untangled() -> None:
    """Two arrows that cross in the order given do not cross in the layout."""
    columns = {"a": 0, "b": 0, "c": 1, "d": 1}
    middles = lay_out(columns, [("a", "d"), ("b", "c")], HEIGHTS).middles
    assert (middles["a"] < middles["b"]) == (middles["d"] < middles["c"])
