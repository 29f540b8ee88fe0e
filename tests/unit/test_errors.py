"""Errors read the same everywhere, and survive the way to another process."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxbuild.errors import (
    ManifestError,
    MaxbuildError,
    PackageError,
    Problem,
    StoreError,
    TaskFailed,
    UnsupportedModel,
    UsageError,
    WeightsError,
    from_json,
    render,
)

EXIT_CODES = {
    MaxbuildError: 1,
    UsageError: 2,
    TaskFailed: 1,
    UnsupportedModel: 1,
    WeightsError: 1,
    PackageError: 1,
    StoreError: 4,
}


def test_render_puts_causes_under_the_message_and_the_hint_apart() -> None:
    """An error is what failed, one line per cause, a blank line, and the way out."""
    error = TaskFailed(
        "could not compile region `decoder.sliding` of `main` for `cuda:sm_90`",
        causes=["kernel `q4_k_matmul` needs 262144 bytes of shared memory, `sm_90` has 232448"],
        hint="lower `BLOCK_K` in kernels/q4_k.py",
    )
    assert render(error) == (
        "error: could not compile region `decoder.sliding` of `main` for `cuda:sm_90`\n"
        "  Caused by: kernel `q4_k_matmul` needs 262144 bytes of shared memory, `sm_90` has 232448\n"
        "\n"
        "hint: lower `BLOCK_K` in kernels/q4_k.py"
    )


def test_render_of_a_bare_message_is_one_line() -> None:
    """Where there is neither cause nor hint, nothing stands for them."""
    assert render(StoreError("the disk is full")) == "error: the disk is full"


def test_render_keeps_further_lines_under_their_first() -> None:
    """A message of several lines keeps its label to the left of all of them."""
    assert render(MaxbuildError("one\ntwo", causes=["three\nfour"])) == (
        "error: one\n       two\n  Caused by: three\n             four"
    )


def test_render_escapes_what_could_steer_a_terminal() -> None:
    """Control and direction characters come out as their escapes."""
    assert render(MaxbuildError("a\x1b[31m\u202eb")) == "error: a\\x1b[31m\\u202eb"


def test_each_class_has_the_documented_exit_code() -> None:
    """Exit codes are 1 for a failure, 2 for usage, 3 for work found, 4 for the store."""
    assert {error: error("x").exit_code for error in EXIT_CODES} == EXIT_CODES
    assert ManifestError([Problem("f", 1, 1, "x")]).exit_code == 2


def test_text_of_an_error_is_its_message_and_causes() -> None:
    """`str` gives one line for a log."""
    assert (
        str(MaxbuildError("it failed", causes=["no disk", "no luck"], hint="buy one")) == "it failed: no disk: no luck"
    )


@given(
    error=st.sampled_from(sorted(EXIT_CODES, key=lambda error: error.__name__)),
    message=st.text(),
    causes=st.lists(st.text(), max_size=3),
    hint=st.none() | st.text(),
)
def test_json_gives_back_an_equal_error(
    error: type[MaxbuildError], message: str, causes: list[str], hint: str | None
) -> None:
    """Class, parts and rendering are the same after a way through JSON."""
    before = error(message, causes=causes, hint=hint)
    after = from_json(json.loads(json.dumps(before.to_json())))
    assert type(after) is error
    assert (after.message, after.causes, after.hint) == (message, tuple(causes), hint)
    assert render(after) == render(before)


def test_json_gives_back_the_problems_of_a_manifest() -> None:
    """A ManifestError keeps every place through JSON."""
    before = ManifestError([Problem("f", 1, 2, "x", "y: z", "h", ("c",)), Problem("--override a=b", 0, 0, "w")])
    after = from_json(json.loads(json.dumps(before.to_json())))
    assert isinstance(after, ManifestError)
    assert after.problems == before.problems


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"class": "SystemExit", "message": "", "causes": [], "hint": None},
        {"class": "TaskFailed", "message": 1, "causes": [], "hint": None},
        {"class": "TaskFailed", "message": "", "causes": "", "hint": None},
        {"class": "TaskFailed", "message": "", "causes": [1], "hint": None},
        {"class": "ManifestError", "problems": []},
        {"class": "ManifestError", "problems": [1]},
        {"class": "ManifestError", "problems": [{"file": "f", "line": True}]},
    ],
)
def test_json_that_describes_no_error_is_refused(value: object) -> None:
    """Only classes of the closed table come out, and only of whole descriptions."""
    with pytest.raises(ValueError, match=r"error|problem"):
        from_json(value)


def test_problem_shows_its_line_with_a_caret() -> None:
    """The caret stands under the place, whatever the width of the number and of the letters before it."""
    error = ManifestError([Problem("m.yaml", 10, 7, "wrong", "\t日本: x", "write it right")])
    assert render(error) == ("error: m.yaml:10:7: wrong\n  10 |  日本: x\n     |         ^\n\nhint: write it right")


def test_problem_in_a_long_line_shows_the_part_around_the_caret() -> None:
    """A line of any length is cut to what fits a screen, and the caret still points at the place."""
    source = "a" * 500 + "X" + "b" * 500
    excerpt = render(ManifestError([Problem("m.yaml", 1, 501, "wrong", source)])).splitlines()
    assert len(excerpt[1]) < 120
    assert excerpt[1][excerpt[2].index("^")] == "X"


def test_several_problems_are_several_blocks() -> None:
    """Each problem of a manifest reads as an error of its own, and `str` counts them."""
    error = ManifestError([Problem("m.yaml", 1, 1, "one"), Problem("m.yaml", 2, 1, "two", hint="h")])
    assert render(error) == "error: m.yaml:1:1: one\n\nerror: m.yaml:2:1: two\n\nhint: h"
    assert str(error) == "2 problems in the manifest: m.yaml:1:1: one: m.yaml:2:1: two"


def test_a_manifest_error_without_a_problem_cannot_be_made() -> None:
    """There is no such thing as an empty list of problems."""
    with pytest.raises(ValueError, match="needs a problem"):
        ManifestError([])
