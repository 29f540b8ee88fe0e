"""`maxbuild cache pin` and `maxbuild cache unpin`: keep all that a run used, however old it gets."""

from __future__ import annotations

import os
import sys
from typing import Annotated, TypeAlias

import typer

from maxbuild.cli.cache.opening import open_store
from maxbuild.engine import journal
from maxbuild.report.terminal import terminal_of

RunId: TypeAlias = Annotated[str, typer.Argument(metavar="RUN", help="The id of a run, as `maxbuild runs` lists it.")]


def pin(run: RunId) -> None:
    """Keep all results that a run used: `gc` takes none of them, whatever the limits; `prune --ci` still does."""
    with open_store() as store:
        journal.pin(store, run)
    terminal_of(sys.stderr, os.environ).write(f"pinned {run}: `gc` keeps what it used")


def unpin(run: RunId) -> None:
    """Let the results of a run go with all others when their time has come."""
    with open_store() as store:
        journal.unpin(store, run)
    terminal_of(sys.stderr, os.environ).write(f"unpinned {run}")
