"""What is cut out of a module for one of its functions: all that it names, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from architectures.sources import package

from maxbuild.architectures.slicing import Slice

KERNELS = '''
"""A module's own docstring."""
from __future__ import annotations
import math, os
from typing import TYPE_CHECKING
from .tiles import TILE as SIZE
if TYPE_CHECKING:
    from torch import Tensor

WIDTH = 4  # a comment
LIMITS: dict[str, int] = {}
LIMITS["rows"] = WIDTH
print("imported")

def helper(x):
    """Say something."""
    return math.sqrt(x) * SIZE

def first(x: Tensor) -> Tensor:
    # a comment
    return helper(x) + LIMITS["rows"]

def second(x):
    return os.getpid()
'''


def cut(folder: Path, *functions: str, **files: str) -> dict[str, str]:
    """Return the slice of these functions (`module.function`) of the package `made`."""
    sliced = Slice(package(folder, **files))
    for function in functions:
        module, _, name = function.rpartition(".")
        sliced.add(module, name)
    return dict(sliced.sources)


def test_a_slice_holds_what_a_function_names(tmp_path: Path) -> None:
    """Helpers, constants, imports and what changes them; not comments, docstrings, other functions or annotations."""
    sources = cut(tmp_path, "made.kernels.first", init="raise OSError", kernels=KERNELS, tiles="TILE = 3\nOTHER = 4\n")
    assert sources == {
        "made/__init__.py": "",
        "made/kernels.py": (
            "from __future__ import annotations\nimport math\nfrom .tiles import TILE as SIZE\nWIDTH = 4\n"
            "LIMITS: dict[str, int] = {}\nLIMITS['rows'] = WIDTH\n"
            "def helper(x):\n    return math.sqrt(x) * SIZE\n"
            "def first(x: Tensor) -> Tensor:\n    return helper(x) + LIMITS['rows']\n"
        ),
        "made/tiles.py": "TILE = 3\n",
    }


def test_comments_layout_and_neighbours_change_no_slice(tmp_path: Path) -> None:
    """Whatever else the module holds, the slice has the same bytes."""
    before = cut(tmp_path / "a", "made.kernels.first", kernels=KERNELS, tiles="TILE = 3\n")
    edited = KERNELS.replace("# a comment", "# another").replace("Say something", "Say it").replace("getpid", "getuid")
    after = cut(
        tmp_path / "b", "made.kernels.first", kernels=f"\n\n{edited}\nx = 1\n", tiles="TILE = (\n 3)\nmore = 2\n"
    )
    assert before == after


@pytest.mark.parametrize(
    ("old", "new"),
    [("WIDTH = 4", "WIDTH = 5"), ("math.sqrt(x)", "math.exp(x)"), ('LIMITS["rows"] = WIDTH', 'LIMITS["rows"] = 7')],
)
def test_what_a_function_computes_with_changes_its_slice(tmp_path: Path, old: str, new: str) -> None:
    """A constant, a helper, a change of a constant: each is in the bytes."""
    before = cut(tmp_path / "a", "made.kernels.first", kernels=KERNELS, tiles="TILE = 3\n")
    after = cut(tmp_path / "b", "made.kernels.first", kernels=KERNELS.replace(old, new), tiles="TILE = 3\n")
    assert before != after


def test_imports_inside_functions_are_followed(tmp_path: Path) -> None:
    """As those at the top: a lowering may import Triton only when it is called."""
    sources = cut(
        tmp_path,
        "made.run",
        init="def run():\n    from .deep.kernels import k\n    return k\n",
        **{"deep/kernels": "k = 1\n"},
    )
    assert sources["made/deep/kernels.py"] == "k = 1\n"
    assert sources["made/deep/__init__.py"] == ""


@pytest.mark.parametrize("used", ["from . import kernels", "import made.kernels", "from .kernels import *"])
def test_a_module_as_a_whole_is_taken_as_a_whole(tmp_path: Path, used: str) -> None:
    """Which of its names are used cannot be seen, so all are in."""
    sources = cut(
        tmp_path, "made.run", init=f"{used}\ndef run():\n    return kernels, made, a\n", kernels="a = 1\nb = 2\n"
    )
    assert sources["made/kernels.py"] == "a = 1\nb = 2\n"


def test_what_stands_in_one_statement_stays_together(tmp_path: Path) -> None:
    """A `try` with two ways to one name is in or out as a whole."""
    two_ways = "try:\n    import fast as k\nexcept ImportError:\n    k = None\n"
    unused = "try:\n    y = 1\nfinally:\n    pass\n"
    sources = cut(tmp_path, "made.run", init=f"{two_ways}{unused}def run():\n    return k\n")
    assert sources["made/__init__.py"].startswith("try:\n    import fast as k\nexcept")
    assert "y = 1" not in sources["made/__init__.py"]


def test_modules_from_elsewhere_are_named(tmp_path: Path) -> None:
    """So that their versions can be in the document."""
    sliced = Slice(package(tmp_path, init="import numpy.linalg\nimport yaml\ndef run():\n    return numpy\n"))
    sliced.add("made", "run")
    assert sliced.foreign == {"numpy.linalg"}


def test_a_name_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """Nothing is cut out by guess."""
    sliced = Slice(package(tmp_path, init="from .kernels import gone\ndef run():\n    return gone\n", kernels=""))
    with pytest.raises(LookupError, match=r"module `made\.kernels` has no `gone`"):
        sliced.add("made", "run")
