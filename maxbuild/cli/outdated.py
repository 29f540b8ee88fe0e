"""`maxbuild outdated`: which locked revisions mean another commit on the hub by now."""

from __future__ import annotations

import os
import sys

import typer

from maxbuild.cli.network import use_network
from maxbuild.cli.options import Json, ManifestOrValues, Overrides
from maxbuild.cli.values import said
from maxbuild.errors import UsageError, WorkFound
from maxbuild.lock import lock_path, read_lock
from maxbuild.pinning import standings
from maxbuild.report.documents import document
from maxbuild.report.lock import standings_content, standings_table
from maxbuild.report.terminal import terminal_of
from maxbuild.report.units import plural


def outdated(
    context: typer.Context, manifest: ManifestOrValues = None, *, override: Overrides = None, json: Json = False
) -> None:
    """Show which locked revisions have moved upstream; exit with 3 where one has.

    The hub is asked for the commit of each branch and tag, and for nothing else; nothing is downloaded or written.
    """
    if not use_network(offline=False):
        raise UsageError("`outdated` asks the hub, and HF_HUB_OFFLINE is set", hint="unset it")
    wanted = said(context, manifest, None, override).load()
    found = standings(wanted, read_lock(lock_path(wanted.path)))
    moved = [standing for standing in found if standing.moved]
    if json:
        typer.echo(document("outdated", {"manifest": wanted.name, "revisions": standings_content(found)}))
    else:
        data, talk = terminal_of(sys.stdout, os.environ), terminal_of(sys.stderr, os.environ)
        if found:
            data.write(standings_table(found, data))
        talk.write(f"{plural(len(found), 'revision')}, {len(moved)} outdated")
        if moved:
            talk.write(f"`maxbuild lock {wanted.path} --upgrade` follows them")
    if moved:
        raise typer.Exit(WorkFound.exit_code)
