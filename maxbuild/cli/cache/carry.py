"""`maxbuild cache export` and `maxbuild cache import`: carry a cache to another host, as one file or through a pipe."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from maxbuild.cli.cache.opening import open_store
from maxbuild.cli.options import Json
from maxbuild.cli.runnames import find_named_run
from maxbuild.engine import Store
from maxbuild.engine.archive import BadArchive, Unpacked, pack, pack_file, select, unpack
from maxbuild.engine.archive.form import Source
from maxbuild.engine.task import Progress
from maxbuild.errors import StoreError, UsageError
from maxbuild.plan import KINDS
from maxbuild.report.documents import document
from maxbuild.report.housekeeping import packed_line, unpacked_line
from maxbuild.report.terminal import terminal_of
from maxbuild.report.transfer import show_transfer

_PIPE = "-"


def export(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The archive to write, `-` for stdout.")],
    *,
    scope: Annotated[
        str | None, typer.Option("--scope", metavar="NAME", help="Only what the manifest of that name consists of now.")
    ] = None,
    run: Annotated[str | None, typer.Option("--run", metavar="RUN", help="Only what that run used.")] = None,
    ci: Annotated[
        bool, typer.Option("--ci", help="Only what must be computed again: compiles and traces, no weights.")
    ] = False,
) -> None:
    """Write results and their content to one file, which `import` takes on any host, at any path.

    Weights that lie in a hub cache or in a model's folder go with it, unless --ci is given.
    """
    if scope is not None and run is not None:
        raise UsageError("`--scope` and `--run` exclude each other", hint="give one of them")
    if file == _PIPE and sys.stdout.isatty():
        raise UsageError("an archive is nothing for a terminal", hint="send it to a file or into a pipe")
    talk = terminal_of(sys.stderr, os.environ)
    with open_store() as store, show_transfer(talk, "packed") as progress:
        chosen = None if run is None else find_named_run(run, store).id
        selection = select(store, scope=scope, run=chosen, kinds=KINDS if ci else None)
        if file == _PIPE:
            packed = pack(store, selection, sys.stdout.buffer, progress)
        else:
            packed = pack_file(store, selection, Path(file), progress)
    talk.write(packed_line(packed, file))


def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="An archive that `export` wrote, `-` for stdin.")],
    *,
    json: Json = False,
) -> None:
    """Take the results of an archive into the store, everything verified; what is there already stays as it is."""
    talk = terminal_of(sys.stderr, os.environ)
    with open_store() as store, show_transfer(talk, "unpacked") as progress:
        unpacked = _unpack(store, file, progress)
    if json:
        content = {name: getattr(unpacked, name) for name in Unpacked.__slots__}
        typer.echo(document("cache-import", {"archive": file, **content}))
    talk.write(unpacked_line(unpacked, file))


def _unpack(store: Store, file: str, progress: Progress) -> Unpacked:
    name = "stdin" if file == _PIPE else file
    try:
        if file == _PIPE:
            return _believed(store, sys.stdin.buffer, name, progress)
        with Path(file).open("rb") as source:
            return _believed(store, source, name, progress)
    except OSError as error:
        raise StoreError(f"could not read `{name}`", causes=[error.strerror or str(error)]) from error


def _believed(store: Store, source: Source, name: str, progress: Progress) -> Unpacked:
    try:
        return unpack(store, source, progress)
    except BadArchive as error:
        raise StoreError(
            f"`{name}` is no archive that can be imported",
            causes=[str(error)],
            hint="no result of it was taken; export it again, and see that all of it arrives",
        ) from error
