"""`maxbuild runs`: what was built when, the newest first."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from maxbuild.cli.options import Json
from maxbuild.engine import Store, default_store_root, journal
from maxbuild.report.documents import document
from maxbuild.report.runs import run_content, runs_table
from maxbuild.report.terminal import terminal_of
from maxbuild.report.units import plural


def runs(
    manifest: Annotated[
        Path | None, typer.Argument(metavar="[MANIFEST]", help="Only the runs of this manifest.")
    ] = None,
    *,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, metavar="N", help="At most N; 0 is all.")] = 20,
    json: Json = False,
) -> None:
    """List the runs of `warm` that the store remembers, the newest first.

    Other commands take a run by its id, by the beginning of one, or as `last`, `last~1` and so on.
    """
    scope = scope_of(manifest) if manifest is not None else None
    with Store(default_store_root(os.environ)) as store:
        found = [run for run in journal.runs(store) if scope is None or run.scope == scope]
    shown = found[:limit] if limit else found
    if json:
        typer.echo(document("runs", {"runs": [run_content(run) for run in shown], "more": len(found) - len(shown)}))
        return
    data, talk = terminal_of(sys.stdout, os.environ), terminal_of(sys.stderr, os.environ)
    if shown:
        data.write(runs_table(shown, time.time(), data))
    if not found:
        talk.write("no run is known")
    elif len(found) > len(shown):
        talk.write(f"{plural(len(found) - len(shown), 'older run')}; `--limit 0` lists all")


def scope_of(manifest: Path) -> str:
    """Return the name of the manifest at that path; ManifestError where it is none."""
    from maxbuild.manifest import load_manifest  # noqa: PLC0415 - without a manifest there is none to read

    return load_manifest(manifest).name
