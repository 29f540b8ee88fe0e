"""What most commands begin with: the manifest read, the store open, the plan made."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from maxbuild.engine import Report, Store, default_store_root, survey
from maxbuild.manifest import Manifest, load_manifest
from maxbuild.plan import ManifestPlan, make_plan


@dataclass(frozen=True, slots=True)
class Project:
    """A manifest, the plan made of it, and the store in which its results are looked up."""

    manifest: Manifest
    store: Store
    plan: ManifestPlan

    def survey(self) -> Report:
        """Return what a build would do."""
        return survey(self.plan, self.store, scope=self.manifest.name)


@contextmanager
def open_project(
    path: Path,
    targets: Sequence[str] | None,
    overrides: Sequence[str] | None,
    *,
    pin: bool = False,
    ask: bool = True,
) -> Iterator[Project]:
    """Lend the project of the manifest at `path`; ManifestError, UsageError or StoreError where there is none.

    pin: write what hub revisions resolve to into the lock file; only a build does. ask: whether the hub may be asked
    for revisions that are not pinned; where it may not, WorkFound is raised.
    """
    manifest = load_manifest(path, targets=targets, overrides=overrides or ())
    with Store(default_store_root(os.environ)) as store:
        yield Project(manifest, store, make_plan(manifest, pin=pin, ask=ask))
