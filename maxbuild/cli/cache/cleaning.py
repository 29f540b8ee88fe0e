"""`maxbuild cache gc` and `maxbuild cache prune`: let go of what need not be kept, or say what that would be."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from typing import Annotated, TypeAlias

import typer

from maxbuild.cli.amounts import parse_age, parse_size
from maxbuild.cli.cache.opening import open_store
from maxbuild.cli.options import Json
from maxbuild.engine import Renewal
from maxbuild.engine.collect import collect
from maxbuild.plan import KINDS
from maxbuild.report.documents import document
from maxbuild.report.housekeeping import collected_content, collected_text
from maxbuild.report.terminal import terminal_of

DryRun: TypeAlias = Annotated[bool, typer.Option("--dry-run", "-n", help="Show what would go, and let nothing go.")]
Verbose: TypeAlias = Annotated[bool, typer.Option("--verbose", "-v", help="A line for each thing, not for each sort.")]


def gc(
    *,
    max_size: Annotated[
        str | None, typer.Option("--max-size", metavar="SIZE", help="How large the store's content may be, as `20GiB`.")
    ] = None,
    max_age: Annotated[
        str | None, typer.Option("--max-age", metavar="AGE", help="How long unused results are kept, as `30d`.")
    ] = None,
    dry_run: DryRun = False,
    verbose: Verbose = False,
    json: Json = False,
) -> None:
    """Let go of results by age and by size, and of what serves no result.

    What packages on this disk and pinned runs were made of stays, and so does what a running build uses. By size, what
    can be downloaded again goes first, what must be compiled again last. Without a limit only what serves no result
    goes, as with `prune`.
    """
    _clean(
        max_size=None if max_size is None else parse_size("--max-size", max_size),
        max_age=None if max_age is None else parse_age("--max-age", max_age),
        dry_run=dry_run,
        verbose=verbose,
        json=json,
    )


def prune(
    *,
    ci: Annotated[
        bool, typer.Option("--ci", help="Keep only what must be computed again: compiles stay, weights go.")
    ] = False,
    dry_run: DryRun = False,
    verbose: Verbose = False,
    json: Json = False,
) -> None:
    """Let go of what serves no result: leftovers of processes that died, damaged content, notes of files that are gone.

    With --ci the store becomes one that is worth its upload: downloads, weights and packages go, whatever is made of
    them; compiles and traces stay, and so does what a running build uses.
    """
    clear = (Renewal.DOWNLOAD, Renewal.REPACK) if ci else ()
    _clean(clear=clear, dry_run=dry_run, verbose=verbose, json=json)


def _clean(
    *,
    dry_run: bool,
    verbose: bool,
    json: bool,
    max_size: int | None = None,
    max_age: float | None = None,
    clear: Collection[Renewal] = (),
) -> None:
    with open_store() as store:
        gone = collect(store, KINDS, max_size=max_size, max_age=max_age, clear=clear, dry_run=dry_run)
    if json:
        typer.echo(document("cache-gc", collected_content(gone, dry_run=dry_run)))
    else:
        data = terminal_of(sys.stdout, os.environ)
        data.write(collected_text(gone, data, dry_run=dry_run, verbose=verbose))
