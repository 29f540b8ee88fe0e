"""Whether a command may use the network, said by `--offline` or by HF_HUB_OFFLINE."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

import typer

from maxbuild.report.terminal import terminal_of

if TYPE_CHECKING:
    from maxbuild.engine import Store
    from maxbuild.manifest import Manifest
    from maxbuild.plan import ManifestPlan
    from maxbuild.plan.matrix import MatrixPlan

OFFLINE: Final = "HF_HUB_OFFLINE"

# huggingface_hub's own reading of these (constants.py), without importing it.
_VARIABLES: Final = (OFFLINE, "TRANSFORMERS_OFFLINE")
_TRUE: Final = frozenset({"1", "ON", "YES", "TRUE"})

Offline: TypeAlias = Annotated[
    bool,
    typer.Option("--offline", help="Open no socket: work from the lock and the caches, and list all that they lack."),
]


def use_network(*, offline: bool) -> bool:
    """Return whether the network may be used; where it may not, by `offline`, this process and its children know."""
    if offline:
        os.environ[OFFLINE] = "1"
    value = next((found for name in _VARIABLES if (found := os.environ.get(name))), "")
    return value.upper() not in _TRUE


def require_files(manifest: Manifest, plan: ManifestPlan | MatrixPlan, store: Store) -> None:
    """Raise MaxbuildError, which lists all files that a build would have to fetch, where there are any."""
    from maxbuild.offline import file_gaps, lacking  # noqa: PLC0415 - hardly any build is told so

    if gaps := file_gaps(plan.components, store, manifest.name):
        raise lacking(gaps)


def reachable(remote: str | None) -> str | None:
    """Return the remote cache that can be used without network: a folder; None, which is told, for any other."""
    if remote is None or remote.startswith("file:"):
        return remote
    terminal_of(sys.stderr, os.environ).write("offline: the remote cache is not asked")
    return None
