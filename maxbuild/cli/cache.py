"""`maxbuild cache`: a look into the store."""

from __future__ import annotations

import os
from dataclasses import asdict

import typer

from maxbuild.cli.commands import new_app
from maxbuild.cli.options import Json
from maxbuild.engine import Statistics, Store, default_store_root
from maxbuild.report.documents import document
from maxbuild.report.units import plural, size

cache = new_app(help="Look into the store of results.", no_args_is_help=True)


@cache.callback()
def _group() -> None:
    """Look into the store of results."""


@cache.command()
def info(*, json: Json = False) -> None:
    """Print where the store is and how much it holds.

    It is in $MAXBUILD_STORE, else in $XDG_CACHE_HOME/maxbuild, else in ~/.cache/maxbuild.
    """
    with Store(default_store_root(os.environ)) as store:
        statistics = store.statistics()
        if json:
            typer.echo(document("cache-info", {"store": str(store.root), **asdict(statistics)}))
        else:
            typer.echo(info_text(store.root, statistics))


def info_text(root: object, statistics: Statistics) -> str:
    """Return what the store at `root` holds, one fact a line."""
    facts = {
        "store": str(root),
        "results": str(statistics.results),
        "blobs": f"{statistics.blobs} ({size(statistics.blob_bytes)})",
        "references": f"{statistics.references} (files outside the store, not copied)",
        "quarantined": plural(statistics.quarantined, "damaged blob"),
        "index": size(statistics.index_bytes),
        "logs": size(statistics.log_bytes),
    }
    return "\n".join(f"{name:<13}{fact}" for name, fact in facts.items())
