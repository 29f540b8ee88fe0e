"""Recipes: what is noted of compiler calls names no place of a host, and carrying it out gives the same anywhere."""

from __future__ import annotations

import json
import shutil
import subprocess
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxbuild.errors import TaskFailed
from maxbuild.targets.recipe import LIBRARY, Recipe, carry_out, package_folders, without_comments
from maxbuild.targets.recorder import Recorder

SOURCE = 'extern "C" int answer() { return 42; } // said on {day}\n'
HASH = "cjsvuoi7tr6rgjilu72rtssb3unx5k33zk4347yu5ou6we6k4gtc"

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ here")


def note(folder: Path, *calls: Sequence[str], link: Sequence[str] = ()) -> Recipe:
    """Return the recipe of `calls` of a recorder's front."""
    recorder = Recorder(folder, "x86-64-v2", link)
    for call in calls:
        subprocess.run([recorder.front, *call], check=True, cwd=folder)
    return recorder.recipe()


def calls_of(folder: Path, source: str) -> list[list[str]]:
    """Return the calls that make a library of `source` in `folder`, spelled as Inductor does."""
    path = folder / f"{HASH}.wrapper.cpp"
    path.write_text(source)
    compiled, library = path.with_suffix(".o"), path.with_suffix(".so")
    flags = ["-O1", "-fPIC", "-march=native", f"-I{package_folders()['{torch}']}/include"]
    stray = f"-L{sysconfig.get_config_var('LIBDIR')}"
    return [
        [str(path), *flags, "-c", "-o", str(compiled)],
        [str(compiled), "-shared", *flags, stray, "-o", str(library)],
    ]


@needs_compiler
def test_calls_that_differ_by_folder_comment_and_day_alone_give_one_recipe(tmp_path: Path) -> None:
    """Nothing of the folder, the host's instructions or a comment is in a recipe, and no call makes anything."""
    recipes = []
    for name, day in (("one", "Monday"), ("other/deeper", "Tuesday")):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        recipes.append(note(folder, *calls_of(folder, SOURCE.replace("{day}", day))))
        assert (folder / f"{HASH}.wrapper.so").read_bytes() == b""
    assert recipes[0] == recipes[1]
    text = json.dumps(recipes[0].to_json())
    assert recipes[0].files.keys() == {"wrapper.cpp"}
    assert not [
        word for word in (str(tmp_path), HASH, "native", "day", sysconfig.get_paths()["include"]) if word in text
    ]


@needs_compiler
def test_a_recipe_carried_out_anywhere_gives_the_same_library(tmp_path: Path) -> None:
    """It does what it was made for, and its bytes depend on neither the folder nor the way through JSON."""
    recipe = note(tmp_path, *calls_of(tmp_path, SOURCE))
    again = Recipe.from_json(json.loads(json.dumps(recipe.to_json())))
    built = []
    for name, made in (("a", recipe), ("b/c", again)):
        (tmp_path / name).mkdir(parents=True)
        built.append(carry_out(made, tmp_path / name, tmp_path).read_bytes())
    assert built[0] == built[1]
    code = f"import ctypes; print(ctypes.CDLL('{tmp_path}/a/{LIBRARY}').answer())"
    assert subprocess.run(["python3", "-c", code], capture_output=True, text=True, check=True).stdout == "42\n"
    assert str(tmp_path).encode() not in built[0]


@needs_compiler
def test_questions_are_answered_by_the_compiler_itself(tmp_path: Path) -> None:
    """A call that makes no file is no part of a recipe; which compiler it is can be told by name and by asking."""
    recorder = Recorder(tmp_path, "x86-64-v2")
    asked = subprocess.run([recorder.front, "--version"], capture_output=True, text=True, check=True)
    assert "Free Software Foundation" in asked.stdout or "clang" in asked.stdout
    assert recorder.front.name in {"g++", "c++", "clang++"}
    assert recorder.recipe() == Recipe({}, [])


@needs_compiler
@pytest.mark.parametrize("argument", ["-I/opt/cuda/include", "/usr/lib/libfoo.a", "-L{torch}-of-mine/lib"])
def test_a_place_that_other_hosts_lack_is_refused(tmp_path: Path, argument: str) -> None:
    """A recipe is shared among hosts, so an argument that would mean something else there must not be in it."""
    argument = argument.replace("{torch}", package_folders()["{torch}"])
    recorder = Recorder(tmp_path, "x86-64-v2")
    subprocess.run([recorder.front, argument, "-o", tmp_path / "x.o"], check=True)
    if argument.startswith("-L"):
        assert argument not in recorder.recipe().commands[0]
    else:
        with pytest.raises(ValueError, match="other hosts lack"):
            recorder.recipe()


@needs_compiler
def test_code_that_does_not_compile_is_told_with_the_compilers_first_error(tmp_path: Path) -> None:
    """TaskFailed quotes it, so that nobody has to look for it in the log."""
    recipe = note(tmp_path, *calls_of(tmp_path, "int main( {}\n"))
    (tmp_path / "work").mkdir()
    with pytest.raises(TaskFailed, match="failed on a region's C\\+\\+ code") as raised:
        carry_out(recipe, tmp_path / "work", tmp_path)
    assert "error: " in raised.value.causes[0]


PIECES = st.sampled_from(
    [
        '"a // b"',
        '"/* no */"',
        r'"\" // "',
        "'\"'",
        "'/'",
        'R"(// " /* )"',
        'R"x(a )" // )x"',
        "int a;",
        "a / b",
        "a /= *b",
    ]
)
COMMENTS = st.sampled_from(["// all of it\n", "/* some */", '/* " */', "// it's \"\n", "/* a // b\n c */", "/**/"])


@given(st.lists(st.tuples(PIECES, COMMENTS), max_size=12))
def test_comments_go_and_nothing_else(parts: list[tuple[str, str]]) -> None:
    """What looks like a comment inside a string, a raw string or a character stays."""
    source = "\n".join(f"{piece} {comment}" for piece, comment in parts)
    left = without_comments(source)
    assert [line.rstrip() for line in left.splitlines() if line.strip()] == [piece for piece, _ in parts]
    assert without_comments(left) == left or not parts
