"""How the module of a custom architecture is found: by reading, never by importing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from architectures.sources import ARCHITECTURE, EXAMPLE, package, write

from maxbuild.architectures.modules import find_module, find_modules
from maxbuild.errors import UsageError

BOMB = "raise SystemExit('imported')\n"


def test_a_package_by_path_is_its_whole_folder(tmp_path: Path) -> None:
    """Every source file counts, whoever imports it; names are paths below the folder, hidden and cached ones aside."""
    package(tmp_path, init=BOMB, model=BOMB, **{"deep/kernels": BOMB})
    for hidden in (".git/hook.py", "__pycache__/model.py", "notes.txt"):
        (tmp_path / "made" / hidden).parent.mkdir(exist_ok=True)
        (tmp_path / "made" / hidden).write_text("")
    found = find_module("./:made", tmp_path)
    assert list(found.files) == ["made/__init__.py", "made/deep/kernels.py", "made/model.py"]
    assert found.files["made/model.py"].samefile(tmp_path / "made" / "model.py")


def test_a_file_brings_the_files_beside_it_that_it_imports(tmp_path: Path) -> None:
    """Directly or through one another, inside functions too; a file beside it that nobody imports does not count."""
    write(
        tmp_path,
        model="import shapes\nimport json\ndef f():\n    from kernels.fast import kernel\n",
        shapes="from other import x\n",
        other="",
        json=BOMB,
        unused=BOMB,
        **{"kernels/__init__": "", "kernels/fast": "", "kernels/slow": BOMB},
    )
    found = find_module("model.py", tmp_path)
    assert list(found.files) == ["kernels/__init__.py", "kernels/fast.py", "model.py", "other.py", "shapes.py"]


def test_an_installed_module_is_what_it_imports_of_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By absolute and relative imports, with the packages above it."""
    package(
        tmp_path, init=BOMB, arch="from . import model\nfrom made.kernels import k\n", model="", kernels="", other=""
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = find_module("made.arch", Path("/"))
    assert list(found.files) == ["made/__init__.py", "made/arch.py", "made/kernels.py", "made/model.py"]
    assert "made" not in sys.modules


def test_libraries_are_those_that_are_in_no_key_yet(tmp_path: Path) -> None:
    """By distribution, whose name may be another; the standard library, torch and transformers are left out."""
    write(tmp_path, model="import torch, json, yaml, numpy.linalg\nfrom transformers import x\nimport nowhere_at_all\n")
    assert find_module("model.py", tmp_path).libraries == ("PyYAML", "nowhere_at_all", "numpy")


def test_what_a_module_brings_is_read_off_its_source(tmp_path: Path) -> None:
    """Names that are plain strings, first or by name."""
    write(
        tmp_path, model=ARCHITECTURE.format(name="made") + "x = a.Architecture(config=1, name='Other')\ny = A('no')\n"
    )
    assert find_module("model.py", tmp_path).brings == ("Other", "madeForCausalLM")
    assert find_module(".:tern", EXAMPLE).brings == ("TernForCausalLM",)


def test_where_it_lies_changes_nothing_but_paths(tmp_path: Path) -> None:
    """The same files elsewhere have the same names."""
    shutil.copytree(EXAMPLE / "tern", tmp_path / "deep" / "tern", ignore=shutil.ignore_patterns("__pycache__"))
    here, there = find_module(".:tern", EXAMPLE), find_module("deep:tern", tmp_path)
    assert list(here.files) == list(there.files)
    assert (here.name, here.libraries, here.brings) == (there.name, there.libraries, there.brings)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("./nowhere:made", "no such module: `./nowhere:made`", "for example"),
        ("nowhere.py", "no such module: `nowhere.py`", "for example"),
        ("made", "no module `made` is installed", "did you mean `.:made`?"),
        ("not_there_at_all", "no module `not_there_at_all` is installed", "for example"),
        ("./made", "`./made` names no module", "for example"),
        (".:a-b", "`.:a-b` names no module", "for example"),
        (".:torch", "has the name of another module, `torch`", ""),
        (".:json.tool", "has the name of another module, `json`", ""),
        ("transformers", "has the name of another module, `transformers`", ""),
        (f".:{'a' * 300}", "no such module", "for example"),
        (f"{'a/' * 3000}x.py", "no such module", "for example"),
        ("broken.py", "is no Python", ""),
    ],
)
def test_what_names_no_module_is_told(tmp_path: Path, text: str, message: str, hint: str) -> None:
    """Each wrong spelling has its message, and the way out where there is one."""
    package(tmp_path)
    write(tmp_path, torch="", broken="x = 1\ndef (:\n")
    with pytest.raises(UsageError) as caught:
        find_module(text, tmp_path)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")
    if text == "broken.py":
        assert caught.value.causes == ("broken.py:2: invalid syntax",)


def test_two_modules_of_one_name_are_refused(tmp_path: Path) -> None:
    """Only one of them could be imported; the same one twice is one."""
    package(tmp_path / "a", init="x = 1")
    package(tmp_path / "b", init="x = 2")
    with pytest.raises(UsageError, match="in modules called `made`"):
        find_modules(["a:made", "b:made"], tmp_path)
    assert len(find_modules(["a:made", "./a/:made"], tmp_path)) == 1


def test_modules_of_one_package_see_the_files_of_both(tmp_path: Path) -> None:
    """Whichever is imported first, the other is found in the package that was imported."""
    write(tmp_path, **{"one/x": "", "one/y": ""})
    found = find_modules([".:one.x", ".:one.y"], tmp_path)
    assert [module.name for module in found] == ["one.x", "one.y"]
    assert all(list(module.files) == ["one/x.py", "one/y.py"] for module in found)


def test_finding_costs_no_torch() -> None:
    """A plan reads modules, and imports neither torch nor transformers nor Triton for it."""
    script = (
        "import sys; from pathlib import Path; from maxbuild.architectures.modules import find_module; "
        "find_module('.:tern', Path(sys.argv[1])); "
        "print(sorted({'torch', 'transformers', 'triton', 'tern'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script, EXAMPLE], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
