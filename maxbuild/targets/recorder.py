"""A front to the C++ compiler that makes nothing: it notes what it is asked to do, which becomes a recipe.

Inductor writes a region's C++ code and calls the compiler at once. Noting the calls cuts the two apart, so that the
longer part can be shared, without touching how Inductor chooses its flags.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from maxbuild.targets.environment import require_compiler
from maxbuild.targets.recipe import LIBRARY, Recipe, package_folders, without_comments

# Questions, such as which version the compiler has, go to the compiler itself: only what makes a file says `-o`.
_FRONT = """#!/bin/sh
case " $* " in *" -o "*) ;; *) exec {compiler} "$@" ;; esac
set -e
calls={calls}
call="$calls/$(ls "$calls" | wc -l)"
mkdir "$call"
for argument; do
    printf '%s\\0' "$argument" >> "$call/arguments"
    case "$previous $argument" in
        "-o "*) : > "$argument" ;;
        *.cpp|*.S) cp "$argument" "$call" ;;
    esac
    previous="$argument"
done
"""

# Names of files: checks in the code quote the file they stand in.
_FIRST = (
    "-Wno-builtin-macro-redefined",
    '-D__FILE__="region.cpp"',
    "-ffile-prefix-map={torch}=torch",
    "-ffile-prefix-map={triton}=triton",
    "-ffile-prefix-map={toolkit}=toolkit",
    # Some distributions' compilers link so by default and others do not; libraries that nothing uses are not recorded.
    "-Wl,--as-needed",
)


class Recorder:
    """The calls of one region's compile."""

    def __init__(self, folder: Path, level: str, link: Sequence[str] = ()) -> None:
        """Write the front into `folder`, an absolute path under which all that is made will lie.

        level: an x86-64 level, in place of whatever instructions Inductor asks for: torch before 2.13 has no option for
        others than the host's. link: the linker's last arguments.
        """
        self._folder = folder
        self._calls = folder / "calls"
        self._last = (f"-march={level}", *link)
        self.front = self._write_front(folder)

    def _write_front(self, folder: Path) -> Path:
        command = require_compiler()
        # Inductor tells compilers apart by name.
        name = next(Path(word).name for word in reversed(command) if not word.startswith("-"))
        front = folder / "bin" / name
        front.parent.mkdir(parents=True)
        self._calls.mkdir()
        front.write_text(_FRONT.format(compiler=shlex.join(command), calls=shlex.quote(str(self._calls))))
        front.chmod(0o755)
        return front

    def recipe(self) -> Recipe:
        """Return what the calls so far come to; ValueError where an argument names a place that others cannot have."""
        files: dict[str, str] = {}
        commands = []
        for call in sorted(self._calls.iterdir(), key=lambda folder: int(folder.name)):
            for source in sorted(set(call.iterdir()) - {call / "arguments"}):
                text = source.read_text(encoding="utf-8")
                files[_short(source.name)] = without_comments(text) if source.suffix == ".cpp" else text
            arguments = (call / "arguments").read_bytes().decode().split("\0")[:-1]
            commands.append((*_FIRST, *_without_host(arguments, self._folder), *self._last))
        return Recipe(files, commands)


def _short(name: str) -> str:
    """Return what is left of a name without the hash, of paths and flags, that Inductor begins it with."""
    _, _, rest = name.partition(".")
    return LIBRARY if rest.endswith(".so") else rest if "." in rest else f"region.{rest}"


def _without_host(arguments: Sequence[str], scratch: Path) -> list[str]:
    """Return a call's arguments with the names that recipes have for places; what is the host's alone is dropped."""
    folders = package_folders()
    named = (_named(argument, scratch, folders) for argument in arguments)
    return [
        argument
        for argument in named
        # The host's instructions, which a level stands in for, and where this Python's own library lies: a region calls
        # nothing of it.
        if not argument.startswith(("-march=", "-L/"))
    ]


def _named(argument: str, scratch: Path, folders: Mapping[str, str]) -> str:
    if argument.startswith(f"{scratch}/"):
        return _short(Path(argument).name)
    option, path = (argument[:2], argument[2:]) if argument.startswith(("-I", "-L")) else ("", argument)
    for name, folder in folders.items():
        if path == folder or path.startswith(f"{folder}/"):
            return f"{option}{name}{path.removeprefix(folder)}"
    if path.startswith("/") and option != "-L":
        raise ValueError(f"the C++ compiler is given `{argument}`, which other hosts lack")
    return argument
