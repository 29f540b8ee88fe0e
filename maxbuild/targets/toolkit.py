"""What stands in for a GPU toolkit when a region's C++ code is compiled and linked: headers, and stub libraries.

Invariant: all of it comes from Python packages or is made here; nothing of a toolkit or driver of this host is used.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from maxbuild.targets.environment import require_compiler

_HEADERS = "include"
_LIBRARIES = "lib"


@dataclass(frozen=True, slots=True)
class Toolkit:
    """What compiles see of a toolkit.

    definitions: macros. headers: folders in the order of search, spelled as in recipes. libraries: link name → name
    that is recorded. make_headers: writes the headers that no package has into a folder.
    """

    definitions: Sequence[str]
    headers: Sequence[str]
    libraries: Mapping[str, str]
    make_headers: Callable[[Path], None]

    @property
    def link(self) -> Sequence[str]:
        """Return the linker's last arguments.

        The linker is told to record each library, since some distributions' compilers leave out what seems unused
        (`--as-needed`).
        """
        listed = [f"-l{name}" for name in self.libraries]
        return (f"-L{{toolkit}}/{_LIBRARIES}", "-Wl,--push-state,--no-as-needed", *listed, "-Wl,--pop-state")

    def lay_out(self, folder: Path) -> None:
        """Make headers and stub libraries in `folder`, which recipes name `{toolkit}`; no part is missing.

        The linker records a stub's name and looks for nothing inside: the symbols are those of the real library, at
        run time.
        """
        for name in (_HEADERS, _LIBRARIES):
            (folder / name).mkdir(parents=True)
        self.make_headers(folder / _HEADERS)
        for name, recorded in self.libraries.items():
            _make_stub(folder / _LIBRARIES / f"lib{name}.so", recorded)


OWN_HEADERS = f"{{toolkit}}/{_HEADERS}"
"""The folder of the headers that `make_headers` writes, as recipes spell it."""


def _make_stub(path: Path, recorded: str) -> None:
    command = require_compiler()
    made = [*command, "-shared", "-nostdlib", "-x", "c", "/dev/null", f"-Wl,-soname,{recorded}", "-o", str(path)]
    subprocess.run(made, check=True)
