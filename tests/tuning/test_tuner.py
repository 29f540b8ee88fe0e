"""Tuning a package, without a device: what is compared, what is timed, and what is chosen of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pretend_device import DEVICE, PretendDevice
from toy_model import PROGRAM
from tuning.toy_tuning import CPU, Works

from maxbuild.runtime.model import Model
from maxbuild.runtime.tuning import Trial
from maxbuild.tuning.contest import ROUNDS, WARM_UPS
from maxbuild.tuning.tuner import Findings, tune
from maxbuild.tuning.workloads import workloads_of

PATH = "regions/{}.pt2"


def tuned(costs: dict[str, float], *names: str, device: torch.device = CPU) -> tuple[Findings, Works]:
    """Tune the toy whose block has the alternatives `names`, by rank."""
    works = Works({f"{name}.pt2": cost for name, cost in costs.items()}, device)
    alternatives = {"block": {str(rank): PATH.format(name) for rank, name in enumerate(names, 1)}}
    return tune(works.package(alternatives), works.load, works), works


def by_rank(found: Findings) -> dict[int, Trial]:
    """Return the trials of the one region by rank."""
    return {trial.rank: trial for trial in found.trials}


def test_a_faster_alternative_is_chosen_for_its_region() -> None:
    """It takes the place of the region's file; every form has a figure for every workload, and an error."""
    found, works = tuned({"fast": 0.5}, "slow", "fast")
    assert found.choices == {PATH.format("block"): PATH.format("fast")}
    names = [workload.name for workload in workloads_of(works.package({}).models["main"])]
    assert len(names) == 3
    trials = by_rank(found)
    assert [trial.path for trial in found.trials] == [PATH.format(name) for name in ("block", "slow", "fast")]
    for rank, share in ((0, 1.0), (1, 1.0), (2, 0.5)):
        assert trials[rank].ratios == dict.fromkeys(names, share)
        assert trials[rank].nanoseconds == {name: round(share * 1e9) for name in names}
    assert (trials[0].error, trials[1].error, trials[2].error) == (None, 0.0, 0.0)


def test_without_a_winner_nothing_is_chosen() -> None:
    """Forms that take as long leave the package as it is built."""
    found, _ = tuned({}, "slow", "fast")
    assert found.choices == {}
    assert len(found.trials) == 3


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("wrong", "it is off by 5"),
        ("nan", "it is off by inf, more than 1e-04"),
        ("wrong_in_prefill", "it is off by"),
        ("forgetful", "it is off by"),
        ("damaged", "could not load the compiled region `damaged.pt2`: no such kernel"),
        ("failing", "could not run the compiled region `failing.pt2`: too many threads"),
    ],
)
def test_what_computes_something_else_is_never_chosen(name: str, why: str) -> None:
    """However fast: other outputs, other caches, NaN, or a failure rule it out in words, and the others go on."""
    found, _ = tuned({name: 0.1, "fast": 0.9}, name, "fast")
    assert found.choices == {PATH.format("block"): PATH.format("fast")}
    out = by_rank(found)[1]
    assert str(out.trouble).startswith(why)
    assert (out.nanoseconds, out.error) == ({}, None)


def test_where_all_are_out_the_default_is_not_even_timed() -> None:
    """There is nothing to compare it with."""
    found, works = tuned({}, "damaged")
    assert found.choices == {}
    assert by_rank(found)[0].nanoseconds == {}
    assert works.ran.count("block.pt2") == 3 * 2  # for each workload: to be compared with, and to go on


def test_regions_without_alternatives_run_once_for_each_workload() -> None:
    """They make the inputs of the others, and cost no time beyond that."""
    _, works = tuned({}, "fast")
    assert works.ran.count("before.pt2") == works.ran.count("after.pt2") == 3
    assert works.ran.count("fast.pt2") == 3 * (1 + WARM_UPS + ROUNDS)


def test_a_region_that_two_roles_share_is_tried_once() -> None:
    """One file is one choice; what was found in the first role holds for the second."""
    works = Works({"fast.pt2": 0.5})
    package = works.package({"block": {"1": PATH.format("fast")}})
    package.models["draft"] = package.models["main"]
    package.header.components["draft"] = package.header.components["main"]  # type: ignore[index]
    found = tune(package, works.load, works)
    assert [trial.region for trial in found.trials] == ["main/block", "main/block"]
    assert works.ran.count("fast.pt2") == 3 * (1 + WARM_UPS + ROUNDS)


def test_a_region_of_many_layers_is_tried_in_the_first_alone() -> None:
    """Time does not grow with depth: further layers run the default once."""
    works = Works({"fast.pt2": 0.5})
    package = works.package({"block": {"1": PATH.format("fast")}})
    model = package.models["main"]
    before, block, after = model.program.steps
    deep = replace(model.program, steps=(before, block, replace(block, values=("mixed", *block.values[1:])), after))
    package.models["main"] = Model(deep, model._regions, model.weights)
    tune(package, works.load, works)
    assert works.ran.count("fast.pt2") == 3 * (1 + WARM_UPS + ROUNDS)
    assert works.ran.count("block.pt2") == 3 * (1 + WARM_UPS + ROUNDS + 2)


def test_a_device_is_given_tensors_of_its_own_alone() -> None:
    """On a device that refuses what a GPU would, the same is found; only comparing looks at numbers."""
    with PretendDevice() as device:
        found, works = tuned({"fast": 0.5}, "fast", device=DEVICE)
        weights = works.package({}).models["main"].weights
    assert found.choices == {PATH.format("block"): PATH.format("fast")}
    assert device.went == 3 * len(weights), "of the package, of the alternative, and of the line above"


def test_workloads_fit_the_model() -> None:
    """A context is no longer than the model's longest row."""
    model = Works({}).package({}).models["main"]
    assert {workload.keys for workload in workloads_of(model)} == {PROGRAM.max_length}
    assert all(workload.tokens <= workload.keys for workload in workloads_of(model))
