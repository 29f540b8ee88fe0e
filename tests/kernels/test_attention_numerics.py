"""Attention kernels, run by Triton's interpreter, against the reference: numbers, caches, and what is never read."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from interpreted import Case, Interpreter, Outcome, make_tensors
from torch import Tensor

from maxbuild.kernels.attention_reference import attend_plainly

# Of the largest value: rounding of the output and, for the 16-bit types, of the weights that values are multiplied by.
TOLERANCES = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 2e-2}


def check(interpreter: Interpreter, case: Case) -> Outcome:
    """Assert that the kernels attend and write as the reference does, to rounding and to the bit, and return both's."""
    outcome = interpreter.attend(case)
    expected = make_tensors(case)
    attended = attend_plainly(
        *(expected.query, expected.key, expected.value, expected.key_cache, expected.value_cache),
        *(expected.positions, case.scale, case.window, case.softcap, expected.sinks),
    )
    error = (outcome.attended.double() - attended).abs().max() / attended.abs().max()
    assert error <= TOLERANCES[case.dtype], f"{error=} of {case}"
    assert outcome.attended.dtype == expected.query.dtype
    assert torch.equal(bits(outcome.key_cache), bits(expected.key_cache))
    assert torch.equal(bits(outcome.value_cache), bits(expected.value_cache))
    return outcome


def bits(tensor: Tensor) -> Tensor:
    """Return the tensor's bits, by which what is no number equals itself."""
    return tensor.view(torch.int32 if tensor.itemsize == 4 else torch.int16)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw any call: few and many new tokens, rows of different lengths, all that models ask of attention."""
    sequence = draw(st.integers(1, 20) | st.sampled_from([33, 50]))
    return Case(
        starts=tuple(draw(st.lists(st.integers(0, 70), min_size=1, max_size=2))),
        sequence=sequence,
        group=draw(st.integers(1, 3)),
        key_heads=draw(st.integers(1, 2)),
        key_size=draw(st.sampled_from([8, 16, 24, 40])),
        value_size=draw(st.sampled_from([8, 16, 24])),
        window=draw(st.just(0) | st.integers(1, 90)),
        softcap=draw(st.sampled_from([0.0, 3.0, 50.0])),
        sinks=draw(st.booleans()),
        dtype=draw(st.sampled_from(["float32", "float32", "bfloat16", "float16"])),
        cache_dtype=draw(st.sampled_from([None, None, "float32", "bfloat16"])),
        target=draw(st.sampled_from(["cuda:sm_90", "cuda:sm_120", "hip:gfx942", "hip:gfx1100"])),
        multiprocessors=draw(st.sampled_from([1, 8, 100])),
        spare=draw(st.integers(0, 40)),
        reversed_tokens=draw(st.booleans()),
        contiguous=draw(st.booleans()),
        garbage=draw(st.sampled_from([float("nan"), float("inf"), 1e4])),
        seed=draw(st.integers(0, 1000)),
    )


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(case=cases())
def test_any_call_is_computed_as_the_reference_does(interpreter: Interpreter, case: Case) -> None:
    """Whatever the shapes, positions and options, kernels give the reference's values and leave the same caches."""
    check(interpreter, case)


# The tiles of float32 on this target: 32 queries and 32 keys in the form for many tokens, 16 and 16 in that for few.
FEW = Case(starts=(37, 5), sequence=3, group=2, key_heads=2)
MANY = Case(starts=(37, 5), sequence=40, group=2)


@pytest.mark.parametrize("sequence", [1, 5, 16, 17, 31, 32, 33, 70])
def test_every_number_of_new_tokens_is_served(interpreter: Interpreter, sequence: int) -> None:
    """One token, as many as the form for few takes, one more, and numbers around a block, in rows of two lengths."""
    check(interpreter, replace(MANY, sequence=sequence))


@pytest.mark.parametrize("window", [1, 2, 15, 16, 17, 31, 32, 33, 38, 39, 64])
@pytest.mark.parametrize("case", [FEW, MANY], ids=["few", "many"])
def test_windows_end_anywhere_in_a_block(interpreter: Interpreter, case: Case, window: int) -> None:
    """Windows one shorter, as long as and one longer than blocks of keys and than what the cache holds."""
    check(interpreter, replace(case, window=window))


@pytest.mark.parametrize("start", [0, 1, 15, 16, 17, 31, 32, 33])
@pytest.mark.parametrize("case", [FEW, MANY], ids=["few", "many"])
def test_caches_end_anywhere_in_a_block(interpreter: Interpreter, case: Case, start: int) -> None:
    """Caches that are empty, and ones that end at, before and after a border of blocks."""
    check(interpreter, replace(case, starts=(start,)))


@pytest.mark.parametrize("case", [FEW, MANY], ids=["few", "many"])
@pytest.mark.parametrize(
    "options",
    [
        {"sinks": True},
        {"softcap": 2.0},
        {"sinks": True, "softcap": 2.0, "window": 9},
        {"group": 3, "key_heads": 2},
        {"group": 7, "sinks": True},
        {"key_size": 40, "value_size": 24},
        {"key_size": 8, "value_size": 20},
        {"reversed_tokens": True},
        {"contiguous": True},
        {"dtype": "bfloat16"},
        {"dtype": "float16", "sinks": True, "window": 20},
        {"cache_dtype": "bfloat16"},
        {"cache_dtype": "bfloat16", "group": 3, "window": 21, "sinks": True},
        {"dtype": "bfloat16", "cache_dtype": "float32"},
        {"dtype": "bfloat16", "target": "hip:gfx1100", "key_size": 32, "value_size": 64, "softcap": 20.0},
    ],
    ids=lambda options: " ".join(f"{name}={value}" for name, value in options.items()),
)
def test_all_that_models_ask_for_works_in_both_forms(
    interpreter: Interpreter, case: Case, options: dict[str, object]
) -> None:
    """Sinks, capping, groups and sizes that are no powers of two, types, strides, tokens in any order."""
    check(interpreter, replace(case, **options))


@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("case", [FEW, MANY], ids=["few", "many"])
def test_what_no_query_may_see_is_never_read(interpreter: Interpreter, case: Case, garbage: float) -> None:
    """Slots beyond a row's position and before its window may hold anything: it does not change a single bit."""
    case = replace(case, window=21, garbage=garbage)
    outcome, clean = check(interpreter, case), interpreter.attend(replace(case, garbage=0.0))
    assert torch.equal(outcome.attended, clean.attended)


def test_one_form_runs_and_the_other_has_empty_grids(interpreter: Interpreter) -> None:
    """Up to 16 new tokens the kernels for few are launched, from 17 on those for many, never both."""
    few, many = {"attention_decode"}, {"attention_write", "attention_prefill"}
    for sequence, expected in ((1, few), (16, few), (17, many), (40, many)):
        outcome = interpreter.attend(Case(starts=(3,), sequence=sequence, multiprocessors=1))
        assert {name for name, grid in outcome.grids.items() if 0 not in grid} == expected


def test_splits_of_the_cache_are_merged(interpreter: Interpreter) -> None:
    """A device with room for it splits the cache, a small one does not, and both get the same values to rounding."""
    case = replace(FEW, starts=(90, 2), sinks=True)
    whole = check(interpreter, replace(case, multiprocessors=1))
    split = check(interpreter, replace(case, multiprocessors=1000))
    assert 0 in whole.grids["attention_merge"]
    assert 0 not in split.grids["attention_merge"]
    blocks_and_splits, *rest = split.grids["attention_decode"]
    assert blocks_and_splits > whole.grids["attention_decode"][0]
    assert rest == list(whole.grids["attention_decode"][1:])
    torch.testing.assert_close(split.attended, whole.attended)
