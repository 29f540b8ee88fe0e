"""What to put into an archive: which results, and which newest documents."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from maxbuild.engine.digest import TaskKey
from maxbuild.engine.holdings import take_stock
from maxbuild.engine.journal import find_run
from maxbuild.engine.store import Store
from maxbuild.engine.task import Kind, Renewal
from maxbuild.errors import UsageError

LAST = "last:"


@dataclass(frozen=True, slots=True)
class Selection:
    """Results by key, sorted, and the newest documents by scope and task name, sorted."""

    keys: tuple[TaskKey, ...]
    names: tuple[tuple[str, str], ...]


def select(
    store: Store,
    *,
    scope: str | None = None,
    run: str | None = None,
    kinds: Mapping[str, Kind] | None = None,
) -> Selection:
    """Return what of `store` to export: all, what `scope` consists of now, or what the run of that id used.

    `kinds`: only results that have to be computed again if they are lost, and whose content is the store's own.
    Raises UsageError where there is no such scope or run.
    """
    stock = take_stock(store)
    names = _names(store, scope)
    keys: Collection[TaskKey] = stock.results.keys()
    if scope is not None:
        lasts = (store.last(*name) for name in names)
        keys = {last.key for last in lasts if last is not None}
    if run is not None:
        found = find_run(store, run)
        if found is None:
            raise UsageError(f"there is no run `{run}`", hint="`maxbuild runs` lists them")
        keys = {task.key for task in found.tasks.values() if task.key is not None}
        names = _names(store, found.scope)
    held = [stock.results[key] for key in sorted(keys) if key in stock.results]
    if kinds is not None:
        computed = {name for name, kind in kinds.items() if kind.renewal is Renewal.COMPUTE}
        held = [
            result
            for result in held
            if (result.kind in computed or result.kind not in kinds) and result.contents <= stock.files.keys()
        ]
    return Selection(tuple(result.key for result in held), tuple(names))


def _names(store: Store, scope: str | None) -> list[tuple[str, str]]:
    """Return scope and name of all newest documents, or of those in `scope`, which must have some."""
    names = []
    for row in store.index.keys(LAST):
        try:
            match json.loads(row.removeprefix(LAST)):
                case [str(whose), str(name)]:
                    names.append((whose, name))
        except ValueError:
            continue
    if scope is None:
        return sorted(names)
    chosen = sorted(name for name in names if name[0] == scope)
    if not chosen:
        known = ", ".join(f"`{whose}`" for whose in sorted({whose for whose, _ in names}))
        raise UsageError(
            f"nothing was built under the name `{scope}`", hint=f"there is {known}" if known else "the store is empty"
        )
    return chosen
