"""Lowerings as documents: what is in them, what changes them, and that they run with nothing else of the module."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures.sources import EXAMPLE, write
from torch import Tensor

from maxbuild.architectures.cutting import lowerings_document
from maxbuild.architectures.importing import import_architectures
from maxbuild.architectures.lowerings import Lowering, read_lowerings
from maxbuild.engine import canonical_json
from maxbuild.errors import TaskFailed, UnsupportedModel

HEAD = """
from __future__ import annotations
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM
from maxbuild.architectures import Architecture, Operator
"""


def documents(folder: Path) -> Mapping[str, Any]:
    """Return for each family the lowerings of all operators of the modules in `folder`."""
    operators = [operator for each in import_architectures(folder) for operator in each.operators]
    return {family: lowerings_document(operators, family, folder) for family in ("cpu", "gpu")}


def tern(folder: Path, **edits: tuple[str, str]) -> Mapping[str, Any]:
    """Return the lowerings of the example in a copy of it, in which each of these files has a text replaced."""
    shutil.copytree(EXAMPLE / "tern", folder / "tern" / "tern", ignore=shutil.ignore_patterns("__pycache__"))
    for name, (old, new) in edits.items():
        path = folder / "tern" / "tern" / f"{name}.py"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
    return documents(folder)


def of_one(folder: Path, text: str, operator: str = "Operator('made::op', op)") -> Mapping[str, Any]:
    """Return the lowerings of a module `made` with this text and operator."""
    declared = f"ARCHITECTURES = [Architecture('A', LlamaConfig, LlamaForCausalLM, operators=({operator},))]\n"
    write(folder / "made", made=HEAD + text + declared)
    return documents(folder)


def read(document: Mapping[str, Any], folder: Path) -> Mapping[str, Lowering]:
    """Read the lowerings in this process, as if the module `made` had never been imported in it."""
    del sys.modules["made"]
    folder.mkdir()
    (folder / "lowerings.json").write_bytes(canonical_json(document))
    return read_lowerings(folder / "lowerings.json", folder / "source")


def run_in_a_process(document: Mapping[str, Any], folder: Path, call: str) -> subprocess.CompletedProcess[str]:
    """Read the lowerings in a fresh process and evaluate `call`, in which `op` is the first one's function."""
    folder.mkdir()
    (folder / "lowerings.json").write_bytes(canonical_json(document))
    script = (
        "import sys, torch; from pathlib import Path; from maxbuild.architectures.lowerings import read_lowerings; "
        "folder = Path(sys.argv[1]); read = read_lowerings(folder / 'lowerings.json', folder / 'source'); "
        "op = next(iter(read.values())).for_device(None); print(eval(sys.argv[2]))"
    )
    return subprocess.run([sys.executable, "-c", script, folder, call], capture_output=True, text=True, check=False)


def test_equal_source_gives_equal_bytes_wherever_it_lies(tmp_path: Path) -> None:
    """And the bytes name no folder of the host."""
    first, second = (canonical_json(tern(tmp_path / name)) for name in ("a", "b"))
    assert first == second
    assert str(tmp_path).encode() not in first


def test_each_family_has_what_it_needs(tmp_path: Path) -> None:
    """CPUs get the reference and no Triton, GPUs the kernel and the function that launches it."""
    made = tern(tmp_path)
    assert set(made["cpu"]["sources"]) == {"tern/__init__.py", "tern/operators.py"}
    assert set(made["gpu"]["sources"]) == {"tern/__init__.py", "tern/operators.py", "tern/kernels.py"}
    assert "triton" not in str(made["cpu"]["sources"])
    assert made["gpu"]["operators"] == {
        "tern.add_rms_norm.default": {
            "module": "tern.operators", "function": "add_rms_norm_on_gpu", "takes_device": True,
        }
    }  # fmt: skip


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("kernels", "# Rounded before it is squared", "# Rounded first", set()),
        ("kernels", "Add one row to its residual", "Add a row to its residual", set()),
        ("modeling", ".square()", ".abs()", set()),
        ("configuration", "rope_theta: float = 10000.0", "rope_theta: float = 500.0", set()),
        ("kernels", "tl.rsqrt(", "1.0 / tl.sqrt(", {"gpu"}),
        ("operators", "8 * device.warp_size", "4 * device.warp_size", {"gpu"}),
        ("operators", "torch.rsqrt(", "torch.sqrt(", {"cpu"}),
    ],
)
def test_an_edit_changes_the_lowerings_that_it_is_about(
    tmp_path: Path, file: str, old: str, new: str, changed: set[str]
) -> None:
    """A comment or a model's class changes none, a kernel those for GPUs, the reference those for CPUs."""
    before, after = tern(tmp_path / "a"), tern(tmp_path / "b", **{file: (old, new)})
    assert {family for family in before if before[family] != after[family]} == changed


def test_a_lowering_runs_without_the_rest_of_its_module(tmp_path: Path) -> None:
    """In a process of its own, where neither the module nor transformers is imported."""
    document = tern(tmp_path / "tern")["cpu"]
    call = "[op(torch.ones(2), torch.ones(2), torch.ones(2), 0.0), 'transformers' in sys.modules]"
    done = run_in_a_process(document, tmp_path / "run", call)
    assert done.stdout.strip() == "[(tensor([1., 1.]), tensor([2., 2.])), False]", done.stderr


def test_what_a_lowering_returns_is_dense(tmp_path: Path) -> None:
    """Regions agree on values by shape alone."""
    document = of_one(tmp_path / "made", "def op(x: Tensor) -> Tensor:\n    return (x + 1).t()\n")["cpu"]
    (lowering,) = read(document, tmp_path / "run").values()
    assert lowering.for_device(None)(torch.zeros(2, 3)).stride() == (2, 1)


def test_a_device_is_given_to_those_that_take_one() -> None:
    """By name; a reference that stands in for a GPU's lowering is called as it is."""

    def plain(x: Tensor) -> Tensor:
        return x + 1

    def fitted(x: Tensor, *, device: Any) -> Tensor:
        return x + device

    assert Lowering(plain, takes_device=False).for_device(7)(torch.zeros(1)).item() == 1  # type: ignore[arg-type]
    assert Lowering(fitted, takes_device=True).for_device(7)(torch.zeros(1)).item() == 7  # type: ignore[arg-type]


def test_libraries_of_a_lowering_are_in_its_document(tmp_path: Path) -> None:
    """With their versions; another version is refused where the lowering would run."""
    document = of_one(tmp_path / "made", "import numpy\ndef op(x: Tensor) -> Tensor:\n    return x * numpy.pi\n")["cpu"]
    assert list(document["libraries"]) == ["numpy"]
    other = tmp_path / "other.json"
    other.write_text(json.dumps({**document, "libraries": {"numpy": "0.1"}}))
    with pytest.raises(TaskFailed) as caught:
        read_lowerings(other, tmp_path / "source")
    assert caught.value.causes[0].endswith("here, and was 0.1 when the model was traced")


def test_a_document_writes_nowhere_else(tmp_path: Path) -> None:
    """It may have come through a remote cache: its files stay in the folder that is given."""
    document = tmp_path / "lowerings.json"
    sources = {"../outside.py": "x = 1"}
    document.write_text(
        json.dumps({"schema": "maxbuild.lowerings.v1", "libraries": {}, "sources": sources, "operators": {}})
    )
    with pytest.raises(ValueError, match="not a name for an output"):
        read_lowerings(document, tmp_path / "source")
    assert not (tmp_path / "outside.py").exists()


def test_without_a_document_there_are_none(tmp_path: Path) -> None:
    """As for every region of transformers' own architectures."""
    assert read_lowerings(None, tmp_path) == {}


def test_a_function_of_another_library_is_refused(tmp_path: Path) -> None:
    """Its source is not the module's, so no key would hold it."""
    with pytest.raises(UnsupportedModel, match="`dedent` is of `textwrap`") as caught:
        of_one(
            tmp_path,
            "from textwrap import dedent\ndef op(x: Tensor) -> Tensor:\n    return x\n",
            "Operator('made::op', op, cpu=dedent)",
        )
    assert "write one that calls it" in (caught.value.hint or "")


def test_a_lowering_that_needs_more_than_it_names_is_told(tmp_path: Path) -> None:
    """A decorator that is not there when the slice runs, say: the compile fails by name, with a hint."""
    text = (
        "import sys\nsys.modules['made_up'] = sys\n"
        "def op(x: Tensor) -> Tensor:\n    return x\nimport made_up\nop.path = made_up.path\n"
    )
    document = of_one(tmp_path / "made", text)["cpu"]
    del sys.modules["made_up"]
    with pytest.raises(TaskFailed, match=r"the lowering `made\.op` of operator `made\.op\.default`") as caught:
        read(document, tmp_path / "run")
    assert caught.value.causes == ("ModuleNotFoundError: No module named 'made_up'",)
