"""Real packages on the devices of a host without a GPU: the option, what it refuses, and regions that fail."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from spaces import Space

from maxbuild.errors import PackageError
from maxbuild.runtime import load_package
from maxbuild.runtime.model import Model, Region, bytes_of_weights
from maxbuild.runtime.package import read_header
from maxbuild.runtime.tuning import AS_BUILT, tuning_file

pytestmark = pytest.mark.slow


def test_run_and_verify_take_a_device(demo_package: Path, space: Space) -> None:
    """A CPU's package runs on `cpu`; on a GPU it is refused with 1, and what is no device with 2."""
    for arguments in (("run", demo_package, "--prompt", "one two"), ("verify", demo_package)):
        assert space.maxbuild(*arguments, "--device", "cpu").returncode == 0
        for device, code, says in (("cuda:0", 1, "does not run on the device `cuda:0`"), ("gpu", 2, "no device is")):
            done = space.maxbuild(*arguments, "--device", device)
            assert (done.returncode, done.stdout) == (code, "")
            assert says in done.stderr


def test_a_region_that_fails_is_named(demo_package: Path) -> None:
    """What goes wrong within compiled code is an error of the package, on the device at hand."""
    path = next(demo_package.glob("regions/*.pt2"))
    with pytest.raises(PackageError, match=f"could not run the compiled region `{path.name}` on `cpu`"):
        Region(path)([torch.zeros(3)])


def test_a_tuning_that_does_not_hold_here_is_told_and_left_aside(demo_package: Path, space: Space) -> None:
    """Whatever lies beside a package, it runs, with the same text, and one line says what was left aside."""
    package = space.folder / "package"
    shutil.copytree(demo_package, package, copy_function=os.link)
    run = ("run", package, "--prompt", "one two", "--max-new-tokens", "4")
    plain = space.maxbuild(*run)
    tuning_file(package).write_text("no tuning")
    done = space.maxbuild(*run)
    assert (done.returncode, done.stdout) == (0, plain.stdout)
    said = [line for line in done.stderr.splitlines() if line.startswith("the package runs as it was built")]
    assert len(said) == 1
    assert f"`{tuning_file(package)}` is no tuning" in said[0]
    assert "as it was built" not in plain.stderr
    assert load_package(package, tuned=False).tuning == AS_BUILT


def test_a_choice_is_what_a_region_is_loaded_from(demo_package: Path) -> None:
    """The chosen file takes the place of the region's own, and of no other."""
    header = read_header(demo_package)
    path = header.components["main"].regions["before"]
    with pytest.raises(PackageError, match=r"could not load the compiled region `elsewhere\.pt2`"):
        Model.load(demo_package, header, "main", choices={path: "regions/elsewhere.pt2"})


def test_the_weights_of_a_component_are_counted_as_they_lie_in_memory(demo_package: Path) -> None:
    """What is told before weights are copied is what they take afterwards."""
    package = load_package(demo_package, check_digests=False)
    assert package.device == torch.device("cpu")
    for role, model in package.models.items():
        loaded = sum(tensor.nbytes for tensor in model.weights.values())
        assert bytes_of_weights(demo_package, package.header, role) == loaded > 1 << 20
