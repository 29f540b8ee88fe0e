"""The file beside a package: data that is used where it holds, and else left aside with a reason, never a failure."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tuning.toy_tuning import tuning, write_header

from maxbuild.errors import PackageError, UsageError
from maxbuild.runtime.device import Gpu
from maxbuild.runtime.package import read_header
from maxbuild.runtime.tuning import AS_BUILT, Applied, Tuning, apply_tuning, header_digest, read_tuning, tuning_file
from maxbuild.targets.spelling import Target
from maxbuild.tuning.record import driver_version, remove_tuning, write_tuning

ALTERNATIVES = {"block": {"1": "regions/fast.pt2", "2": "regions/wrong.pt2"}}
CHOICES = {"regions/block.pt2": "regions/fast.pt2"}
H200 = Gpu("H200", Target("cuda", "sm_90"))
TORCH = "2.13.0+cu130"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return a package of the toy with alternatives, and a tuning beside it that takes one."""
    folder = write_header(tmp_path / "cuda-sm_90", ALTERNATIVES)
    write_tuning(tuning(header_digest(folder), CHOICES), tuning_file(folder))
    return folder


def applied(folder: Path, gpu: Gpu | None = H200, torch_version: str = TORCH) -> Applied:
    """Return what the package takes of the file beside it."""
    return apply_tuning(folder, read_header(folder), gpu, torch_version)


def test_what_was_found_is_used_on_the_same_device(package: Path) -> None:
    """The same package, kind of device and torch: the alternative runs in place of the region's file."""
    assert applied(package) == Applied(CHOICES)


def test_another_driver_changes_nothing(package: Path) -> None:
    """A driver runs the very instructions that were timed; it is told, and not compared."""
    found = read_tuning(tuning_file(package))
    assert found is not None
    write_tuning(replace(found, driver="1.0"), tuning_file(package))
    assert applied(package) == Applied(CHOICES)


@pytest.mark.parametrize(
    ("gpu", "torch_version", "why"),
    [
        (Gpu("H100", H200.target), TORCH, "it was made on H200 (cuda:sm_90), and this is H100 (cuda:sm_90)"),
        (
            Gpu("H200", Target("cuda", "sm_89")),
            TORCH,
            "it was made on H200 (cuda:sm_90), and this is H200 (cuda:sm_89)",
        ),
        (H200, "2.13.1+cu130", "it was made with torch 2.13.0+cu130, and this is 2.13.1+cu130"),
        (None, TORCH, "it was made on a GPU, and this is a CPU"),
    ],
)
def test_elsewhere_the_package_runs_as_it_was_built(
    package: Path, gpu: Gpu | None, torch_version: str, why: str
) -> None:
    """Another device, or another torch: nothing is taken, and it is said why."""
    assert applied(package, gpu, torch_version) == Applied({}, f"`{tuning_file(package)}`: {why}")


def test_a_package_that_was_built_anew_is_not_tuned(package: Path) -> None:
    """Figures of another build say nothing of this one, also where the names of files are the same."""
    header = package / "package.json"
    header.write_text(header.read_text().replace('"toy"', '"other"'))
    assert str(applied(package).unused).endswith("it was made for another build of the package")


def test_without_a_file_nothing_is_said(tmp_path: Path) -> None:
    """Most packages were never tuned."""
    assert applied(write_header(tmp_path / "package", ALTERNATIVES)) is AS_BUILT


@pytest.mark.parametrize(
    "choices",
    [
        {"regions/block.pt2": "regions/after.pt2"},
        {"regions/block.pt2": "../../elsewhere.pt2"},
        {"regions/after.pt2": "regions/fast.pt2"},
    ],
)
def test_only_what_the_header_offers_is_taken(package: Path, choices: dict[str, str]) -> None:
    """A choice is an alternative of that very region: no other file, and none outside of the package."""
    write_tuning(tuning(header_digest(package), choices), tuning_file(package))
    found = applied(package)
    assert found.choices == {}
    assert str(found.unused).endswith("which the package does not offer")


def _spoilt(change: Callable[[dict[str, Any]], object]) -> bytes:
    document = tuning("0" * 64, CHOICES).to_json()
    change(document)
    return json.dumps(document).encode()


BROKEN = {
    "empty": b"",
    "no JSON": b"choices: none",
    "no UTF-8": b'{"schema": "\xff"}',
    "no object": b"[1, 2]",
    "deep": b"[" * 100_000,
    "another schema": _spoilt(lambda document: document.update(schema="maxbuild.tuning.v2")),
    "a member less": _spoilt(lambda document: document.pop("device")),
    "a number for a text": _spoilt(lambda document: document.update(torch=2)),
    "choices in a list": _spoilt(lambda document: document.update(choices=["regions/fast.pt2"])),
    "a choice of no text": _spoilt(lambda document: document["choices"].update({"regions/block.pt2": None})),
    "trials of no objects": _spoilt(lambda document: document.update(measured=[1])),
    "truth for a number": _spoilt(lambda document: document["measured"][0].update(rank=True)),
    "infinity": _spoilt(lambda document: document["measured"][0]["ratios"].update({"decode 1": float("inf")})),
    "beyond a float": _spoilt(lambda document: document["measured"][0]["ratios"].update({"decode 1": 10**400})),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_left_aside_with_its_name(package: Path, content: bytes) -> None:
    """The package runs as it was built; what is wrong is told, and how to get rid of it."""
    file = tuning_file(package)
    file.write_bytes(content)
    found = applied(package)
    assert found.choices == {}
    assert str(found.unused).startswith(f"`{file}` is no tuning that this version can read: ")
    with pytest.raises(PackageError) as caught:
        read_tuning(file)
    assert "maxbuild tune --remove" in str(caught.value.hint)


def test_a_file_that_cannot_be_read_is_left_aside(package: Path) -> None:
    """A folder in its place, say."""
    tuning_file(package).unlink()
    tuning_file(package).mkdir()
    assert str(applied(package).unused).endswith("Is a directory")


_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)


@given(_values)
def test_any_json_is_a_tuning_or_refused_in_words(value: object) -> None:
    """Whatever stands there, reading it ends in a tuning or in ValueError."""
    document = tuning("0" * 64, CHOICES).to_json()
    for changed in (value, *({**document, name: value} for name in document)):
        with suppress(ValueError):
            assert isinstance(Tuning.from_json(changed), Tuning)


def test_what_is_written_is_read_again(package: Path) -> None:
    """A tuning and its file say the same."""
    assert read_tuning(tuning_file(package)) == tuning(header_digest(package), CHOICES)
    assert [path.name for path in sorted(package.parent.iterdir())] == ["cuda-sm_90", "cuda-sm_90.tuning.json"]


def test_a_link_to_a_package_has_the_packages_own_file(package: Path, tmp_path: Path) -> None:
    """Whoever tunes by one name and serves by another means the same package."""
    link = tmp_path / "current"
    link.symlink_to(package)
    assert tuning_file(link) == tuning_file(package)
    with pytest.raises(PackageError, match="no place beside it"):
        tuning_file(Path("/"))


def test_removing_says_whether_there_was_something(package: Path) -> None:
    """A second time there is nothing to do; what cannot be removed is told."""
    assert remove_tuning(tuning_file(package))
    assert not remove_tuning(tuning_file(package))
    with pytest.raises(UsageError, match="cannot remove"):
        remove_tuning(package)


def test_what_cannot_be_written_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    """A place that is a folder refuses; no half of a file stays."""
    (tmp_path / "x.tuning.json").mkdir()
    with pytest.raises(UsageError, match="cannot write"):
        write_tuning(tuning("0", {}), tmp_path / "x.tuning.json")
    assert [path.name for path in tmp_path.iterdir()] == ["x.tuning.json"]


def test_a_drivers_version_is_what_its_module_says(tmp_path: Path) -> None:
    """None where there is none."""
    place = tmp_path / "sys/module/nvidia/version"
    place.parent.mkdir(parents=True)
    place.write_text("580.65.06\n")
    assert driver_version("cuda", tmp_path) == "580.65.06"
    assert driver_version("hip", tmp_path) is None
