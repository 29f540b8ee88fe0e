"""What stands in for a GPU toolkit when a region's C++ code is compiled and linked: headers, and stub libraries.

Invariant: all of it comes from Python packages or is made here; nothing of a toolkit or driver of this host is used.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from maxbuild.targets.environment import compiler_command


@dataclass(frozen=True, slots=True)
class Toolkit:
    """Macros to define, folders of headers in the order of search, and the linker's last arguments."""

    definitions: Sequence[str]
    headers: Sequence[Path]
    link: Sequence[str]


def link_arguments(folder: Path, libraries: Mapping[str, str]) -> list[str]:
    """Make a stub of each library, link name → name that is recorded, in `folder`; return what links with them.

    The linker records a name and looks for nothing inside: the symbols are those of the real library, at run time. It
    is told to record each, since some distributions' compilers leave out what seems unused (`--as-needed`).
    """
    folder.mkdir(parents=True)
    for name, recorded in libraries.items():
        _make_stub(folder / f"lib{name}.so", recorded)
    listed = [f"-l{name}" for name in libraries]
    return [f"-L{folder}", "-Wl,--push-state,--no-as-needed", *listed, "-Wl,--pop-state"]


def _make_stub(path: Path, recorded: str) -> None:
    command = compiler_command()
    assert command is not None
    made = [*command, "-shared", "-nostdlib", "-x", "c", "/dev/null", f"-Wl,-soname,{recorded}", "-o", str(path)]
    subprocess.run(made, check=True)
