"""Damaged, truncated and foreign packages are refused before any of their code is loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from spaces import Space

from maxbuild.errors import PackageError
from maxbuild.runtime import load_package

pytestmark = pytest.mark.slow


@pytest.fixture
def copy(demo_package: Path, tmp_path: Path) -> Path:
    """Return a copy of the demo package that may be broken."""
    return Path(shutil.copytree(demo_package, tmp_path / "package"))


@pytest.fixture
def no_code_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test where a region's artifact is opened as code."""
    import torch

    def refuse(*_: object) -> None:
        pytest.fail("compiled code was loaded from a package that must be refused")

    monkeypatch.setattr(torch._C._aoti, "AOTIModelPackageLoader", refuse)


def flip(path: Path) -> None:
    """Change one bit in the middle of a file, size and all else as before."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def cut(path: Path) -> None:
    """Drop the second half of a file."""
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(data[: len(data) // 2])


def edit_header(package: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change what package.json says."""
    path = package / "package.json"
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))


@pytest.mark.usefixtures("no_code_is_loaded")
@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
@pytest.mark.parametrize(
    "kind", ["regions/*.pt2", "main/weights/*.safetensors", "main/program.json", "main/tokenizer.json"]
)
def test_damage_to_any_file_is_named(copy: Path, kind: str, damage: Callable[[Path], None]) -> None:
    """Whatever file is flipped, cut or gone, the error names it."""
    path = next(copy.glob(kind))
    damage(path)
    with pytest.raises(PackageError) as caught:
        load_package(copy)
    assert str(path.relative_to(copy)) in str(caught.value)


@pytest.mark.usefixtures("no_code_is_loaded")
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.update(schema="maxbuild.package.v0"), "schema"),
        (lambda d: d.update(target="cuda:sm_91"), "cuda:sm_91"),
        (lambda d: d["built_with"].update(torch="2.4.0"), "2.4.0"),
        (lambda d: d["files"].update({"../outside": {"sha256": "0" * 64, "size": 1}}), "leads out"),
        (lambda d: d["files"].update({"/etc/passwd": {"sha256": "0" * 64, "size": 1}}), "leads out"),
        (lambda d: d.pop("components"), "malformed"),
        (lambda d: d["components"]["main"].update(program="nowhere.json"), "no digest"),
    ],
)
def test_foreign_headers_are_refused(copy: Path, change: Callable[[dict[str, Any]], None], says: str) -> None:
    """Another schema, target or torch, and paths that lead out, are refused by name."""
    edit_header(copy, change)
    with pytest.raises(PackageError, match=says):
        load_package(copy)


@pytest.mark.usefixtures("no_code_is_loaded")
def test_a_link_out_of_the_package_is_refused(copy: Path, tmp_path: Path) -> None:
    """A file that is a link to the outside is not this package's, even with the right content."""
    region = next(copy.glob("regions/*.pt2"))
    outside = tmp_path / "outside.pt2"
    region.rename(outside)
    region.symlink_to(outside)
    with pytest.raises(PackageError, match="leads out"):
        load_package(copy)


def test_commands_refuse_in_words(copy: Path, space: Space) -> None:
    """`run` and `verify` end with 1 and say what is damaged; a folder that is no package is told apart."""
    flip(next(copy.glob("regions/*.pt2")))
    for arguments in (("run", copy, "--prompt", "one"), ("verify", copy)):
        done = space.maxbuild(*arguments)
        assert done.returncode == 1
        assert done.stdout == ""
        assert "is damaged" in done.stderr
        assert "Traceback" not in done.stderr
    done = space.maxbuild("run", space.folder, "--prompt", "one")
    assert "is no package" in done.stderr


def test_regions_in_each_others_place_are_found_by_verify(copy: Path, space: Space) -> None:
    """A package whose digests are all right, but which computes something else, exits with 1 and says where.

    The layers of the two kinds take the same inputs; only the window of one sets them apart.
    """

    def swap(document: dict[str, Any]) -> None:
        regions = document["components"]["main"]["regions"]
        sliding, full = "decoder.sliding", "decoder.full"
        regions[sliding], regions[full] = regions[full], regions[sliding]

    edit_header(copy, swap)
    done = space.maxbuild("verify", copy)
    assert done.returncode == 1, done.stderr
    wrong = {line.split()[0] for line in done.stdout.splitlines() if line.endswith("too large")}
    assert wrong == {"main/decoder.sliding", "main/decoder.full", "main/logits"}
