"""The whole way of `maxbuild tune`, rehearsed with a CPU's package that was given alternatives, and a clock's word."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from maxbuild.errors import PackageError
from maxbuild.runtime import load_package
from maxbuild.runtime.device import Gpu
from maxbuild.runtime.package import read_header
from maxbuild.runtime.tuning import header_digest, read_tuning, tuning_file
from maxbuild.targets.spelling import Target
from maxbuild.tuning.contest import ROUNDS, WARM_UPS
from maxbuild.tuning.on_device import tune_package
from maxbuild.tuning.record import write_tuning

pytestmark = pytest.mark.slow

GPU = Gpu("a stand-in", Target("cuda", "sm_90"))


class Pretended:
    """A GPU that is none, and a clock of two forms that says of the alternative that it takes half as long."""

    def __init__(self) -> None:
        self.measured = 0

    def all(self) -> Sequence[Gpu]:
        return [GPU]

    def memory(self, index: int) -> tuple[int, int]:
        raise AssertionError(index)

    def seconds(self, work: Callable[[], object]) -> float:
        work()
        turn, place = divmod(self.measured % (2 * (WARM_UPS + ROUNDS)), 2)
        self.measured += 1
        is_backwards = (turn - WARM_UPS) % 2 == 1
        return 0.5 if (place == 1) != is_backwards else 1.0


@pytest.fixture
def package(demo_package: Path, tmp_path: Path) -> Path:
    """Return the demo with an alternative each of two regions: one that is the same, one that is another region."""
    folder = tmp_path / "package"
    shutil.copytree(demo_package, folder, copy_function=os.link)
    document = json.loads((folder / "package.json").read_bytes())
    main, files = document["components"]["main"], document["files"]
    for region, content in (("before", "before"), ("decoder.full", "decoder.sliding")):
        path = f"regions/{region}-1.pt2"
        os.link(folder / main["regions"][content], folder / path)
        files[path] = files[main["regions"][content]]
        main.setdefault("alternatives", {})[region] = {"1": path}
    (folder / "package.json").unlink()
    (folder / "package.json").write_text(json.dumps(document))
    return folder


def test_real_regions_are_compared_timed_and_chosen(package: Path) -> None:
    """The one that computes the same is taken; the one that attends to a window is off and left out."""
    said: list[str] = []
    pretended = Pretended()
    found = tune_package(package, None, said.append, gpus=pretended, clock_of=lambda _: pretended)
    assert found.made_with.package == header_digest(package)
    assert (found.made_with.device, found.made_with.target) == (GPU.name, "cuda:sm_90")
    before, other = read_header(package).components["main"].regions["before"], "regions/before-1.pt2"
    assert found.choices == {before: other}
    trials = {(trial.region, trial.rank): trial for trial in found.trials}
    assert trials["main/before", 1].error == 0.0
    assert set(trials["main/before", 1].ratios.values()) == {0.5}
    assert str(trials["main/decoder.full", 1].trouble).startswith("it is off by")
    assert len(said) == 2 * 3
    assert pretended.measured == 3 * 2 * (WARM_UPS + ROUNDS)


def test_a_device_that_fails_is_told_in_words(package: Path) -> None:
    """What torch raises for a kernel that failed meanwhile, or for want of memory, is no fault of ours to report."""

    def fail(_: object) -> Pretended:
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nmore")

    with pytest.raises(PackageError, match="`cpu` failed while the package was timed") as caught:
        tune_package(package, None, lambda _: None, gpus=Pretended(), clock_of=fail)
    assert caught.value.causes == ("CUDA error: an illegal memory access was encountered",)


def test_what_was_found_lies_beside_the_package_which_stays_as_it_is(package: Path) -> None:
    """Not a byte of the package is another; here, where no such device is, it runs as it was built, and says why."""
    before = {path: path.read_bytes() for path in package.rglob("*") if path.is_file()}
    pretended = Pretended()
    found = tune_package(package, "cpu", lambda _: None, gpus=pretended, clock_of=lambda _: pretended)
    write_tuning(found, tuning_file(package))
    assert {path: path.read_bytes() for path in package.rglob("*") if path.is_file()} == before
    assert read_tuning(tuning_file(package)) == found
    loaded = load_package(package)
    assert loaded.tuning.choices == {}
    assert "this is a CPU" in str(loaded.tuning.unused)
