"""What most commands begin with: the manifest read, the store open, the plan made."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from maxbuild.cli.network import use_network
from maxbuild.cli.values import Said
from maxbuild.engine import Report, Store, default_store_root, survey
from maxbuild.manifest import Manifest
from maxbuild.plan import ManifestPlan, make_plan

if TYPE_CHECKING:
    from maxbuild.plan.matrix import MatrixPlan


@dataclass(frozen=True, slots=True)
class Project:
    """A manifest, the plan made of it, and the store in which its results are looked up."""

    manifest: Manifest
    store: Store
    plan: ManifestPlan | MatrixPlan

    def survey(self) -> Report:
        """Return what a build would do."""
        return survey(self.plan, self.store, scope=self.manifest.name)


@contextmanager
def open_project(
    said: Said, *, pin: bool = False, ask: bool = True, locked: bool = False, offline: bool = False
) -> Iterator[Project]:
    """Lend the project of the manifest that is said; ManifestError, UsageError or StoreError where there is none.

    pin: write what hub revisions resolve to into the lock file; only a build does. ask: whether the hub may be asked
    for revisions that are not pinned; where it may not, WorkFound is raised. locked: UsageError is raised where the
    lock would change. offline: no socket is opened, and MaxbuildError lists what cannot be pinned without.
    """
    networked = use_network(offline=offline)
    manifest = said.load()
    with Store(default_store_root(os.environ)) as store:
        if ask and not locked and not networked:
            from maxbuild.offline import require_pins  # noqa: PLC0415 - hardly any build is told so

            require_pins(manifest, store)
        yield Project(manifest, store, make_plan(manifest, pin=pin, ask=ask, locked=locked))
