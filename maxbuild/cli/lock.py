"""`maxbuild lock`: pin what a manifest takes from hubs and addresses, and tell what changed by that."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated

import typer

from maxbuild.choice import models_of
from maxbuild.cli.network import Offline, use_network
from maxbuild.cli.options import Json, ManifestOrValues, Overrides
from maxbuild.cli.values import said
from maxbuild.engine import Store, default_store_root
from maxbuild.errors import UsageError, WorkFound
from maxbuild.lock import Lock, lock_path, read_lock, write_lock
from maxbuild.lock.difference import compare_locks
from maxbuild.manifest import Manifest
from maxbuild.offline import require_pins
from maxbuild.pinning import pinned, without_stale
from maxbuild.report.documents import document
from maxbuild.report.lock import changes_content, changes_text, lock_summary
from maxbuild.report.terminal import terminal_of
from maxbuild.report.words import one_line
from maxbuild.resolve import deficits


def lock(
    context: typer.Context,
    manifest: ManifestOrValues = None,
    roles: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ROLE]…", help="With --upgrade: the models that follow, by their roles; default all."),
    ] = None,
    *,
    override: Overrides = None,
    upgrade: Annotated[
        bool, typer.Option("--upgrade", help="Follow branches, tags and addresses to what is there now.")
    ] = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Write nothing; exit with 3 where the lock would change. Alone, it asks nobody."),
    ] = False,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Pin what a manifest takes from hubs and addresses, in the lock beside it.

    What is pinned stays, but for what --upgrade follows; what no model names any more goes. What is different is told.
    """
    networked = use_network(offline=offline)
    if upgrade and not networked:
        causes = ["the network is not to be used: `--offline`, or HF_HUB_OFFLINE is set"]
        raise UsageError("`--upgrade` asks the hub", causes=causes, hint="leave one of them out")
    wanted = said(context, manifest, None, override).load()
    path = lock_path(wanted.path)
    known = read_lock(path)
    followed = _roles(wanted, roles or (), upgrade=upgrade)
    if check and not upgrade:
        _check(wanted, known, path, json=json)
        return
    if not networked:
        with Store(default_store_root(os.environ)) as store:
            require_pins(wanted, store)
    after = pinned(wanted, known, upgrade=followed)
    if not check and (known is not None or after.repositories or after.addresses):
        write_lock(path, after)
    _tell(wanted.name, known, after, path, check=check, json=json)


def _roles(manifest: Manifest, given: Sequence[str], *, upgrade: bool) -> Collection[str]:
    """Return the roles that follow; UsageError for one that the manifest has not."""
    if given and not upgrade:
        raise UsageError(f"`{given[0]}` says nothing without `--upgrade`", hint="`lock` pins all models of a manifest")
    known_roles = tuple(dict.fromkeys(role for role, _ in models_of(manifest)))
    for role in given:
        if role not in known_roles:
            known = ", ".join(f"`{name}`" for name in known_roles)
            raise UsageError(f"the manifest has no model in the role `{role}`", hint=f"its roles are {known}")
    return given or (known_roles if upgrade else ())


def _check(manifest: Manifest, known: Lock | None, path: Path, *, json: bool) -> None:
    """Tell what the lock lacks and what it has too much of; nobody is asked."""
    lacks = deficits(manifest, known)
    stale = compare_locks(known, without_stale(manifest, known)) if known else ()
    if json:
        content = {"manifest": manifest.name, "lock": str(path), "up_to_date": not (lacks or stale)}
        names = [change.name for change in stale]
        typer.echo(document("lock-check", {**content, "lacks": list(lacks), "stale": names}))
    else:
        data = terminal_of(sys.stdout, os.environ)
        for line in (*lacks, *(f"no model names `{change.name}` any more" for change in stale)):
            data.write(one_line(line))
        if not (lacks or stale):
            data.write(f"{path} is up to date")
    if lacks or stale:
        raise typer.Exit(WorkFound.exit_code)


def _tell(name: str, known: Lock | None, after: Lock, path: Path, *, check: bool, json: bool) -> None:
    changes = compare_locks(known, after)
    if json:
        typer.echo(document("lock", {"manifest": name, "lock": str(path), "changes": changes_content(changes)}))
    else:
        data, talk = terminal_of(sys.stdout, os.environ), terminal_of(sys.stderr, os.environ)
        if changes:
            data.write(changes_text(changes, data))
        done = "would be written" if check else "written"
        talk.write(f"{path} {done if changes else 'is up to date'}: {lock_summary(after)}")
    if check and changes:
        raise typer.Exit(WorkFound.exit_code)
