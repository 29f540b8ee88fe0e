"""What a C++ compiler has to do to make a region's library: sources and command lines, told without this host's paths.

Invariant: equal recipes and equal toolchains give equal libraries. So targets for which a region's C++ code comes out
the same share the library, and a recipe needs no torch that is imported, only its headers.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from maxbuild.errors import TaskFailed
from maxbuild.targets.environment import require_compiler

SCHEMA = "maxbuild.recipe.v1"

LIBRARY = "region.so"
"""What the last command makes, in the folder that all of them run in."""

_TOKEN = re.compile(
    r"""
    //[^\n]* | /\*.*?\*/                                  # comments, which are dropped
    | R"(?P<fence>[^(\s]*)\(.*?\)(?P=fence)"              # and what may look like one: raw strings,
    | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*'           # strings and characters
    """,
    re.DOTALL | re.VERBOSE,
)


class Recipe(NamedTuple):
    """Sources by file name, and the arguments of each call of the compiler, in order, in the folder of the sources.

    Arguments hold `{torch}`, `{triton}`, `{python}` (its headers) and `{toolkit}` where the paths of these belong.
    """

    files: Mapping[str, str]
    commands: Sequence[Sequence[str]]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "schema": SCHEMA,
            "files": dict(self.files),
            "commands": [list(arguments) for arguments in self.commands],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Return the recipe of its JSON form, which `to_json` has made."""
        return cls(document["files"], document["commands"])


def package_folders() -> Mapping[str, str]:
    """Return where the parts that recipes name lie on this host, as far as they are there; nothing is imported."""
    folders = {"{python}": sysconfig.get_paths()["include"]}
    for name in ("torch", "triton"):
        found = importlib.util.find_spec(name)
        if found is not None and found.submodule_search_locations:
            folders[f"{{{name}}}"] = next(iter(found.submodule_search_locations))
    return folders


def without_comments(source: str) -> str:
    """Return C++ code without comments and empty lines.

    Inductor tells in comments of each kernel which device it is for, and the compiler never sees them.
    """
    code = _TOKEN.sub(lambda token: " " if token[0].startswith("/") else token[0], source)
    return "\n".join(line.rstrip() for line in code.splitlines() if line.strip()) + "\n"


def carry_out(recipe: Recipe, folder: Path, toolkit: Path) -> Path:
    """Carry out `recipe` in the empty `folder` and return the library, without what no loader reads.

    toolkit: the folder that arguments name `{toolkit}`. Raise TaskFailed where the compiler fails.
    """
    places = {**package_folders(), "{toolkit}": str(toolkit.absolute())}
    for name, source in recipe.files.items():
        (folder / name).write_text(source, encoding="utf-8")
    for arguments in recipe.commands:
        _run([_placed(argument, places) for argument in arguments], folder)
    # An id that the linker makes of all its input, and symbols that only a debugger looks for.
    strip = shutil.which("strip") or "strip"
    subprocess.run([strip, "--strip-unneeded", "--remove-section=.note.gnu.build-id", LIBRARY], cwd=folder, check=True)
    return folder / LIBRARY


def _placed(argument: str, places: Mapping[str, str]) -> str:
    for name, place in places.items():
        argument = argument.replace(name, place)
    return argument


def _run(arguments: Sequence[str], folder: Path) -> None:
    command = require_compiler()
    done = subprocess.run([*command, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    sys.stderr.write(done.stdout + done.stderr)  # the task's log
    if done.returncode:
        told = [line.strip() for line in done.stderr.splitlines() if "error: " in line]
        raise TaskFailed(
            f"`{command[-1]}` failed on a region's C++ code", causes=told[:1] or [f"exit status {done.returncode}"]
        )
