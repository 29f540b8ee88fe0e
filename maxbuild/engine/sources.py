"""Source files: the content of inputs that lie outside the store, read where the memo does not know it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from maxbuild.engine.digest import Digest
from maxbuild.engine.store import Store
from maxbuild.engine.task import Task
from maxbuild.errors import TaskFailed


def read_sources(store: Store, task: Task, paths: Collection[Path]) -> dict[Path, Digest]:
    """Return the digests of the source files `paths`; TaskFailed when one cannot be read."""
    digests = {}
    for path in paths:
        try:
            digests[path] = store.digest_of_source(path)
        except OSError as error:
            raise TaskFailed(
                f"could not read an input of task `{task.name}`",
                causes=[f"`{path}`: {error.strerror or error}"],
            ) from error
    return digests
