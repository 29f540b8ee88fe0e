"""`maxbuild cache info`: where the store is, how much it holds, and who uses it."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict

import typer

from maxbuild.cli.cache.opening import open_store
from maxbuild.cli.options import Json
from maxbuild.engine import Store
from maxbuild.engine.holdings import by_kind, take_stock
from maxbuild.engine.journal import runs
from maxbuild.engine.roots import read_roots
from maxbuild.engine.session import claims_of_the_living
from maxbuild.report.documents import document
from maxbuild.report.housekeeping import StoreFacts, info_text
from maxbuild.report.terminal import terminal_of


def info(*, json: Json = False) -> None:
    """Print where the store is, how much it holds of each kind, and what keeps it.

    It is in $MAXBUILD_STORE, else in $XDG_CACHE_HOME/maxbuild, else in ~/.cache/maxbuild.
    """
    with open_store() as store:
        facts = _facts(store)
    if json:
        statistics = facts.statistics._asdict()
        kinds = [asdict(share) for share in facts.kinds]
        rest = {
            "kinds": kinds,
            "sessions": facts.sessions,
            "packages": [str(path) for path in facts.packages],
            "pinned_runs": list(facts.pinned),
        }
        typer.echo(document("cache-info", {"store": str(facts.root), **statistics, **rest}))
    else:
        data = terminal_of(sys.stdout, os.environ)
        data.write(info_text(facts, data))


def _facts(store: Store) -> StoreFacts:
    return StoreFacts(
        root=store.root,
        statistics=store.statistics(),
        kinds=by_kind(take_stock(store)),
        # Who may not write cannot ask for a lock either.
        sessions=None if store.read_only else claims_of_the_living(store.base).living,
        packages=[root.witness.parent for root in read_roots(store)[0] if root.holds()],
        pinned=[run.id for run in runs(store) if run.pinned],
    )
