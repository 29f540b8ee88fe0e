"""`maxbuild cache pin` and `maxbuild cache unpin`: keep all that a run used, however old it gets."""

from __future__ import annotations

import os
import sys
from typing import Annotated, TypeAlias

import typer

from maxbuild.cli.cache.opening import open_store
from maxbuild.cli.runnames import find_named_run
from maxbuild.engine import journal
from maxbuild.report.terminal import terminal_of

RunName: TypeAlias = Annotated[
    str, typer.Argument(metavar="RUN", help="A run: its id or a beginning of it, `last`, `last~1`.")
]


def pin(run: RunName) -> None:
    """Keep all results that a run used: `gc` takes none of them, whatever the limits; `prune --ci` still does."""
    with open_store() as store:
        found = find_named_run(run, store)
        journal.pin(store, found.id)
    terminal_of(sys.stderr, os.environ).write(f"pinned {found.id}: `gc` keeps what it used")


def unpin(run: RunName) -> None:
    """Let the results of a run go with all others when their time has come."""
    with open_store() as store:
        found = find_named_run(run, store)
        journal.unpin(store, found.id)
    terminal_of(sys.stderr, os.environ).write(f"unpinned {found.id}")
