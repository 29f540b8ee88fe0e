"""A scratch world for the commands: a toy plan over two files, and a store."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import typer
from toyplans import KINDS, Toy

from maxbuild.cli.building import Wishes, build, conclude
from maxbuild.engine import Report, Store, survey
from maxbuild.report.terminal import Terminal

ROOT = Path(__file__).parents[2]
WISHES = Wishes("toy", 1)


@dataclass
class World:
    """A toy plan and a store; `warm` and `survey` do what the commands do once a manifest is read."""

    toy: Toy
    store: Store

    @property
    def folder(self) -> Path:
        """Return the folder of the plan's two files."""
        return self.toy.folder

    def edit(self, name: str, content: str) -> None:
        """Write one of the plan's files anew."""
        (self.folder / name).write_text(content)

    def replan(self, **changes: object) -> None:
        """Change the plan."""
        self.toy = replace(self.toy, **changes)  # type: ignore[arg-type]

    def survey(self) -> Report:
        """Return what a build would do."""
        return survey(self.toy, self.store, scope="toy")

    def warm(self, wishes: Wishes = WISHES, *, width: int | None = None) -> tuple[int, str]:
        """Build as `maxbuild warm` does and return the exit code and what was said on stderr."""
        said = io.StringIO()
        talk = Terminal(said, width=width)
        built = build(self.toy, self.store, KINDS, wishes, talk)
        packages = [Path("packages/toy/cpu")] if built.report.complete else []
        try:
            conclude(built, packages, wishes, talk, 0.25)
        except typer.Exit as done:
            return done.exit_code, said.getvalue()
        return 0, said.getvalue()


Maxbuild = Callable[..., "subprocess.CompletedProcess[str]"]
"""The real command: arguments to what a process did."""
