"""`maxbuild cache verify`: read all there is and tell what is damaged."""

from __future__ import annotations

import os
import sys

import typer

from maxbuild.cli.cache.opening import open_store
from maxbuild.cli.options import Json
from maxbuild.engine.audit import audit
from maxbuild.report.documents import document
from maxbuild.report.housekeeping import audit_content, audit_text
from maxbuild.report.terminal import terminal_of
from maxbuild.report.transfer import show_transfer


def verify(*, json: Json = False) -> None:
    """Read all content and all results again, and set aside what is damaged; the next `warm` makes it again.

    It finds what nothing else does: bytes that changed while size and time of the file stayed. Exits with 1 where
    something was found.
    """
    talk = terminal_of(sys.stderr, os.environ)
    with open_store() as store:
        with show_transfer(talk, "read") as progress:
            found = audit(store, progress)
        set_aside = not store.read_only
    if json:
        typer.echo(document("cache-verify", audit_content(found, set_aside=set_aside)))
    else:
        data = terminal_of(sys.stdout, os.environ)
        data.write(audit_text(found, data, set_aside=set_aside))
    if found.findings:
        raise typer.Exit(1)
