"""Runs by what people type: an id, enough of its beginning, or how long ago: `last`, `last~1`."""

from __future__ import annotations

import re

from maxbuild.engine import Store
from maxbuild.engine.journal import Run, find_run, newest_run, run_ids
from maxbuild.errors import UsageError

_AGO = re.compile(r"last(?:~(\d{1,6}))?")
_MOST_LISTED = 10


def find_named_run(query: str, store: Store, scope: str | None = None) -> Run:
    """Return the run that `query` means; UsageError where there is not one.

    `last` is the newest, of `scope` where that is given. `last~1` is the one before it of the same manifest.
    """
    if (ago := _AGO.fullmatch(query)) is not None:
        return _run_ago(int(ago[1] or 0), store, scope)
    names = [name for name in run_ids(store) if name.startswith(query)] if query else []
    found = [run for name in names if (run := find_run(store, name)) is not None]
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(f"no run is called `{query}`", hint="`maxbuild runs` lists them; `last` is the newest")
    listed = [run.id for run in found[:_MOST_LISTED]]
    more = [f"and {len(found) - _MOST_LISTED} more"] if len(found) > _MOST_LISTED else []
    raise UsageError(f"`{query}` could be {len(found)} runs", hint="\n".join(["name one of", *listed, *more]))


def require_tasks(run: Run) -> None:
    """Raise UsageError where nobody knows any more which tasks `run` had."""
    if not run.complete:
        raise UsageError(
            f"the tasks of run `{run.id}` are not known any more",
            causes=[f"they are those of run `{run.same_as}`, and its journal is gone"],
            hint="`maxbuild runs` lists the other runs",
        )


def _run_ago(steps: int, store: Store, scope: str | None) -> Run:
    newest = newest_run(store, scope)
    whose = f" of `{scope}`" if scope is not None else ""
    if newest is None:
        raise UsageError(
            f"there is no run{whose} in the store `{store.root}`",
            hint="`maxbuild warm` makes one, `maxbuild runs` lists them",
        )
    run = newest_run(store, newest.scope, before=steps) if steps else newest
    if run is None:
        raise UsageError(
            f"there is no run of `{newest.scope}` as old as `last~{steps}`",
            hint="`maxbuild runs` lists those there are",
        )
    return run
