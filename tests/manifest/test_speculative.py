"""The `speculative` section: what it takes, what would be ignored and is refused, and where that is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from maxbuild.errors import ManifestError, Problem
from maxbuild.manifest import Manifest, load_manifest


def read(folder: Path, roles: str = "{model_path: a/b}", **said: Any) -> Manifest:
    """Read a manifest with these values in its section, and what else its models say."""
    lines = [f"  {name}: {json.dumps(value)}" for name, value in {"speculative_method": "standalone", **said}.items()]
    path = folder / "m.yaml"
    path.write_text(
        "version: 1\nname: demo\ntargets: [cpu:x86-64-v2]\nmodels:\n"
        f"  main: {roles}\n  draft: {roles}\nspeculative:\n" + "\n".join(lines) + "\n"
    )
    return load_manifest(path)


def problem(folder: Path, **said: Any) -> Problem:
    """Return the one problem of such a manifest."""
    with pytest.raises(ManifestError) as caught:
        read(folder, **said)
    (found,) = caught.value.problems
    return found


def test_residual_is_the_default_of_standalone(tmp_path: Path) -> None:
    """As the ancestor has it."""
    section = read(tmp_path, num_speculative_tokens=4).speculative
    assert section is not None
    assert section.rejection_sampling_strategy == "residual"
    assert not section.use_relaxed_acceptance_for_thinking
    assert section.synthetic_acceptance_rate is None


@pytest.mark.parametrize("strategy", ["greedy", "residual", "typical-acceptance", "logit-comparison"])
def test_every_strategy_is_taken_with_relaxed_acceptance(tmp_path: Path, strategy: str) -> None:
    """All four, with their bounds."""
    section = read(
        tmp_path,
        num_speculative_tokens=4,
        rejection_sampling_strategy=strategy,
        use_relaxed_acceptance_for_thinking=True,
        relaxed_topk=3,
        relaxed_delta=1,
    ).speculative
    assert section is not None
    assert (section.rejection_sampling_strategy, section.relaxed_topk, section.relaxed_delta) == (strategy, 3, 1.0)


@pytest.mark.parametrize(
    ("said", "line", "message"),
    [
        ({"relaxed_topk": 10}, 10, "`relaxed_topk` has no effect without `use_relaxed_acceptance_for_thinking: true`"),
        ({"relaxed_delta": 0.6}, 10, "`relaxed_delta` has no effect without"),
        (
            {"synthetic_acceptance_rate": 0.5, "rejection_sampling_strategy": "residual"},
            11,
            "`rejection_sampling_strategy` has no effect beside `synthetic_acceptance_rate`",
        ),
        (
            {"use_relaxed_acceptance_for_thinking": True, "synthetic_acceptance_rate": 0.5},
            10,
            "`use_relaxed_acceptance_for_thinking` has no effect beside `synthetic_acceptance_rate`",
        ),
        ({"synthetic_acceptance_rate": 1.5}, 10, "`synthetic_acceptance_rate` must be at most 1"),
        ({"rejection_sampling_strategy": "hope"}, 10, "`hope` is no `rejection_sampling_strategy`"),
    ],
    ids=str,
)
def test_what_would_be_ignored_is_refused_where_it_stands(
    tmp_path: Path, said: dict[str, Any], line: int, message: str
) -> None:
    """Also where the value is the default: who writes it means something by it."""
    found = problem(tmp_path, num_speculative_tokens=4, **said)
    assert found.line == line
    assert found.message.startswith(message)


@pytest.mark.parametrize("method", ["eagle", "mtp"])
def test_other_methods_are_refused_with_the_reason(tmp_path: Path, method: str) -> None:
    """They are known, and it is said what they would need."""
    found = problem(tmp_path, speculative_method=method, num_speculative_tokens=4)
    assert f"`speculative_method: {method}` is refused" in found.message
    assert found.line == 8


def test_more_proposals_than_a_row_holds_are_told_in_the_manifest(tmp_path: Path) -> None:
    """As far as it names the longest rows; the place is that of the number."""
    roles = "{model_path: a/b, max_length: 64}"
    assert read(tmp_path, roles, num_speculative_tokens=63).speculative is not None
    found = problem(tmp_path, roles=roles, num_speculative_tokens=64)
    assert (found.line, found.message) == (
        9,
        "the draft is to propose 64 tokens at a time, and rows of `main` have 64 at most",
    )
