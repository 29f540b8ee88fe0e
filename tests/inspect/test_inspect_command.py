"""The command on whole packages: what it prints, its exit codes, and that it only reads."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from inspect_samples import Kernels, Workshop, write_package, write_region
from spaces import ROOT, Space

from maxbuild.errors import PackageError
from maxbuild.inspect import package as inspecting
from maxbuild.inspect.package import inspect_package


@pytest.fixture
def copy(packages: dict[str, Path], tmp_path: Path) -> Path:
    """Return a copy of the package for CUDA that may be broken."""
    return Path(shutil.copytree(packages["cuda:sm_90"], tmp_path / "package"))


def test_targets_stand_side_by_side(packages: dict[str, Path], space: Space) -> None:
    """Each kernel has a line per target, in one table; warnings follow, and what is sound leaves no error."""
    done = space.maxbuild("inspect", packages["hip:gfx942"], packages["cuda:sm_90"], "--kernels")
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split() for line in done.stdout.splitlines() if "triton_" in line and not line.startswith("warning")]
    kernels = ("triton_add_0", "triton_crowded_0", "triton_matmul_0", "triton_wide_0")
    assert [(row[1], row[2]) for row in rows] == [(k, t) for k in kernels for t in ("hip:gfx942", "cuda:sm_90")]
    assert done.stdout.count("\nwarning: ") == 4
    assert ", 0 failed\n" in done.stdout
    regions = space.maxbuild("inspect", *packages.values())
    assert [line.split()[:2] for line in regions.stdout.splitlines() if line.startswith("main/decoder.full")] == [
        ["main/decoder.full", target] for target in packages
    ]


def test_the_document_has_everything(packages: dict[str, Path], space: Space) -> None:
    """Kernels with usage and instructions, wrappers with what they need, checks and warnings are in it."""
    done = space.maxbuild("inspect", packages["hip:gfx942"], "--json")
    document = json.loads(done.stdout)
    (package,) = document["packages"]
    assert (document["schema"], package["target"], package["device"]) == ("maxbuild.inspect.v1", "hip:gfx942", "MI300X")
    regions = {region["names"][0]: region for region in package["regions"]}
    matmul = next(k for k in regions["main/decoder.full"]["kernels"] if k["name"] == "triton_matmul_0")
    assert matmul["instructions"]["matrix"] > 0
    assert sum(n for sort, n in matmul["instructions"].items() if sort != "total") == matmul["instructions"]["total"]
    assert matmul["usage"]["registers"] > 0
    assert matmul["entry"] == "matmul"
    assert "libtorch_hip.so" in regions["main/before"]["wrapper"]["needed"]
    assert {check["outcome"] for check in package["checks"]} == {"passed", "unchecked"}
    assert len(package["warnings"]) == 2


def test_the_picture_is_svg(packages: dict[str, Path], space: Space) -> None:
    """The picture names every kernel and target; one that cannot be written is told."""
    picture = space.folder / "compared.svg"
    both = (packages["cuda:sm_90"], packages["hip:gfx942"])
    done = space.maxbuild("inspect", *both, "--picture", picture)
    assert done.returncode == 0, done.stderr
    texts = {text.text for text in ElementTree.fromstring(picture.read_text()).iter("{http://www.w3.org/2000/svg}text")}
    assert {"cuda:sm_90", "hip:gfx942", "triton_wide_0", "matrix instructions"} <= texts
    assert any(text.endswith("too much") for text in texts if text)
    done = space.maxbuild("inspect", *both, "--picture", space.folder / "nowhere" / "x.svg")
    assert done.returncode == 2
    assert "cannot write" in done.stderr


def test_a_failed_check_is_the_exit_code(kernels: Kernels, workshop: Workshop, space: Space) -> None:
    """A package whose digests are right and whose kernel is for another GPU exits with 1 and says which."""
    old = kernels("add", "cuda:sm_80")
    library = workshop.wrapper("cuda", [(old.launch.file, old.launch.entry)])
    region = write_region(space.folder / "x.pt2", library, "cuda:sm_90", [old])
    package = write_package(space.folder / "wrong", "cuda:sm_90", {"decoder.full": region})
    done = space.maxbuild("inspect", package)
    assert done.returncode == 1
    told = "failed: cuda:sm_90 main/decoder.full triton_add_0: architecture: it is built for sm_80, not for sm_90"
    assert told in done.stdout
    assert done.stderr == ""
    assert "1 failed" in done.stdout.splitlines()[-1]


def test_damage_is_refused_before_anything_is_read(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bit in any file of a package, and a file cut short, is found by its digest; no region is looked into."""
    monkeypatch.setattr(inspecting, "inspect_region", lambda *_: pytest.fail("a damaged region was read"))
    chance = random.Random(7)
    for path in sorted(file for file in copy.rglob("*") if file.is_file() and file.name != "package.json"):
        whole = path.read_bytes()
        flipped = bytearray(whole)
        flipped[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        for damaged in (bytes(flipped), whole[: len(whole) // 2], b""):
            path.write_bytes(damaged)
            with pytest.raises(PackageError) as caught:
                inspect_package(copy)
            assert str(path.relative_to(copy)) in str(caught.value)
        path.write_bytes(whole)


def test_damage_behind_right_digests_is_told_in_words(copy: Path, tmp_path: Path) -> None:
    """Whatever is changed or cut in a region that the header then describes, an answer comes of it, and no error."""
    region = (copy / "regions" / "before.pt2").read_bytes()
    chance, failed = random.Random(7), 0
    for index in range(40):
        damaged = bytearray(region)
        if index % 4 == 0:
            damaged = damaged[: chance.randrange(len(region))]
        else:
            # The end of a zip file is its list of members, the beginning its first member.
            place = chance.choice([chance.randrange(len(region)), len(region) - 1 - chance.randrange(900)])
            damaged[place] ^= 1 << chance.randrange(8)
        path = tmp_path / f"{index}.pt2"
        path.write_bytes(damaged)
        found = inspect_package(write_package(tmp_path / str(index), "cuda:sm_90", {"before": path}))
        failed += any(check.outcome == "failed" for check in found.checks)
    assert failed > 20


def test_packages_for_unknown_targets_are_refused(copy: Path) -> None:
    """A target that this version does not know, and one not spelled in full, are told as such."""
    header = copy / "package.json"
    document = json.loads(header.read_bytes())
    for target in ("tpu:v9", "cuda:sm_75", "cuda", "cpu", ""):
        header.write_text(json.dumps(document | {"target": target}))
        with pytest.raises(PackageError, match=f"built for `{target}`, which this version does not know"):
            inspect_package(copy)


def test_what_is_no_package_is_refused(space: Space) -> None:
    """A folder without a header, and none at all, end with 1 and the usual words."""
    for folder in (space.folder, space.folder / "nowhere"):
        done = space.maxbuild("inspect", folder)
        assert done.returncode == 1
        assert "is no package" in done.stderr
        assert "Traceback" not in done.stderr
    assert space.maxbuild("inspect").returncode == 2


def test_nothing_is_loaded_or_left_behind(packages: dict[str, Path], tmp_path: Path) -> None:
    """Inspection maps no library of the package, imports neither torch nor Triton, and leaves no file."""
    script = (
        "import sys; from pathlib import Path; from maxbuild.inspect.package import inspect_package\n"
        "inspect_package(Path(sys.argv[1]), with_instructions=True)\n"
        "maps = Path('/proc/self/maps').read_text()\n"
        "print([name for name in ('torch', 'triton') if name in sys.modules], 'libtorch' in maps, '.pt2' in maps)"
    )
    before = {path: path.stat() for path in sorted(packages["cuda:sm_90"].rglob("*"))}
    (tmp_path / "tmp").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", script, packages["cuda:sm_90"]],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path / "tmp")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[] False False"
    assert list((tmp_path / "tmp").iterdir()) == []
    after = {path: path.stat() for path in sorted(packages["cuda:sm_90"].rglob("*"))}
    assert {p: (s.st_mtime_ns, s.st_size) for p, s in before.items()} == {
        p: (s.st_mtime_ns, s.st_size) for p, s in after.items()
    }


def test_regions_that_roles_share_are_told_once(packages: dict[str, Path], tmp_path: Path) -> None:
    """One file that two roles name is one region with both names."""
    folder = Path(shutil.copytree(packages["cpu:x86-64-v3"], tmp_path / "package"))
    document = json.loads((folder / "package.json").read_bytes())
    document["components"]["draft"] = document["components"]["main"]
    (folder / "package.json").write_text(json.dumps(document))
    (region,) = inspect_package(folder).regions
    assert region.names == ("main/decoder.full", "draft/decoder.full")
