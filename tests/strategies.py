"""Hypothesis strategies that tests share: JSON values, graphs of toy tasks, and how long a search lasts.

Two lengths of search are registered: `model` is what every run of the tests takes and finds the same cases each time;
`fuzz` draws new cases until MAXBUILD_FUZZ_EXAMPLES are done. MAXBUILD_SEARCH chooses; nothing changes the settings of
tests that do not ask `search_settings`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

JSON: TypeAlias = "bool | int | str | list[JSON] | dict[str, JSON] | None"

MODEL_EXAMPLES = 50
MODEL_STEPS = 20
FUZZ_STEPS = 80

_PATIENT = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)
settings.register_profile(
    "model",
    max_examples=MODEL_EXAMPLES,
    stateful_step_count=MODEL_STEPS,
    derandomize=True,
    deadline=None,
    suppress_health_check=_PATIENT,
)
settings.register_profile(
    "fuzz",
    max_examples=int(os.environ.get("MAXBUILD_FUZZ_EXAMPLES", "1000")),
    stateful_step_count=FUZZ_STEPS,
    derandomize=False,
    deadline=timedelta(minutes=5),
    phases=(Phase.reuse, Phase.generate, Phase.shrink),
    suppress_health_check=_PATIENT,
    print_blob=True,
)


def search_settings() -> settings:
    """Return the settings of the search that the environment asks for."""
    return settings.get_profile(os.environ.get("MAXBUILD_SEARCH", "model"))


# JSON

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
"""Any text that has a UTF-8 form, control characters and what lies beyond the basic plane among it."""

values: st.SearchStrategy[JSON] = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
"""Any JSON value without floats."""

params = st.dictionaries(texts, values, max_size=3)
"""Parameters of a task."""


# Graphs of toy tasks

SOURCES = 3
"""How many source files there are; a store keeps four references to one content, so none is ever dropped."""

MOST_TASKS = 7

WORKING_KINDS = (
    "concat",
    "parity",
    "pass_through",
    "multi_output",
    "env_reader",
    "fail_if",
    "slow",
    "nondeterministic",
)

contents = st.sampled_from(["", "a", "b", "aa", "b a", "ab ba", "bad", "bad a", "bad bad"])
"""What a source file holds: few words, so that edits go back and forth, sizes repeat, and `bad` makes some fail."""

options = st.sampled_from([{}, {"mode": "fast"}, {"mode": "slow"}, {"levels": [1, 2]}, {"levels": [2], "mode": "fast"}])
"""A parameter with an inside, which no toy looks at."""


@dataclass(frozen=True)
class Work:
    """One task of a random graph: what it does, and by number which source files and tasks it consumes.

    A task consumes only from tasks of lower numbers that are there, so that every collection of works is a graph.
    """

    kind: str
    text: str
    options: JSON
    sources: tuple[int, ...]
    producers: frozenset[int]


# Not `integers`: that tries numbers it finds in the modules that are loaded, so cases would depend on these.
task_numbers = st.sampled_from(range(MOST_TASKS))
source_numbers = st.sampled_from(range(SOURCES))
counts = st.sampled_from(range(64))
"""What to pick from a list of any length: its remainder."""

works = st.builds(
    Work,
    kind=st.sampled_from([*WORKING_KINDS, "fail_if", "pass_through"]),
    text=st.sampled_from(["x", "y", ""]),
    options=options,
    sources=st.lists(source_numbers, min_size=1, max_size=2, unique=True).map(tuple),
    producers=st.frozensets(task_numbers, min_size=1, max_size=4),
)

graphs = st.dictionaries(task_numbers, works, min_size=3, max_size=MOST_TASKS)
"""Tasks by number."""


@dataclass(frozen=True)
class Wish:
    """How a build is asked for."""

    scope: str
    jobs: int
    keep_going: bool
    only: frozenset[int]
    grown: bool
    rerun: frozenset[int]
    surveyed: bool


_some = st.just(frozenset()) | st.frozensets(task_numbers, max_size=2)

wishes = st.builds(
    Wish,
    scope=st.sampled_from(["one", "two"]),
    jobs=st.sampled_from(range(1, 9)),
    keep_going=st.booleans(),
    only=_some,
    grown=st.booleans(),
    rerun=_some,
    surveyed=st.booleans(),
)
"""Ways to ask for a build."""
