"""Sharing: results taken from a remote cache instead of running, and given to it after.

Nothing that comes from there is believed beyond its digests: which outputs a key has is the remote's word, what they
hold is checked here.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from maxbuild.engine.digest import Digest
from maxbuild.engine.lookup import Miss
from maxbuild.engine.records import Record, Result
from maxbuild.engine.store import Store
from maxbuild.engine.task import Kind, Renewal, Task

if TYPE_CHECKING:
    from maxbuild.engine.remote import RemoteCache, RemoteResult


class Sharing(NamedTuple):
    """A remote cache, and whether it is for all results or only for those that have to be computed."""

    cache: RemoteCache
    everything: bool = False

    def covers(self, kind: Kind) -> bool:
        """Return whether results of `kind` are asked for and offered."""
        return self.everything or kind.renewal is Renewal.COMPUTE


def fetch_result(sharing: Sharing, task: Task, miss: Miss, store: Store, folder: Path) -> Record | None:
    """Bring the result under the key of `miss` into `store`; None where the remote cache has none that is whole.

    What is fetched lies in `folder` until it is verified. Raises StoreError when the disk refuses.
    """
    found = sharing.cache.find(miss.key)
    if found is None or not _fits(found, task):
        return None
    for output in found.outputs.values():
        if store.hold(output.digest) is None:
            path = folder / f"fetched-{os.urandom(8).hex()}"
            if not sharing.cache.fetch(output.digest, output.size, path):
                return None
            store.publish(path, digest=output.digest)
    result = Result({name: output.digest for name, output in found.outputs.items()})
    size = sum(output.size for output in found.outputs.values())
    return Record.of(miss.document.text, result, found.seconds, size, miss.explanations)


def offer_result(sharing: Sharing, record: Record, store: Store) -> None:
    """Give `record` and its blobs to the remote cache, if it takes any; where it does not, the build goes on."""
    if not sharing.cache.writable:
        return
    from maxbuild.engine.remote import RemoteOutput, RemoteResult  # noqa: PLC0415 - only who shares needs it

    blobs: dict[Digest, Path] = {}
    for digest in record.result.outputs.values():
        path = store.blob_path(digest)
        if path is None:
            return
        blobs[digest] = path
    try:
        sizes = {digest: path.stat().st_size for digest, path in blobs.items()}
    except FileNotFoundError:  # a file that lies elsewhere went away: there is nothing to offer
        return
    outputs = {name: RemoteOutput(digest, sizes[digest]) for name, digest in record.result.outputs.items()}
    sharing.cache.publish(record.key, RemoteResult(outputs, record.seconds), blobs)


def _fits(found: RemoteResult, task: Task) -> bool:
    return all(task.declares(name) for name in found.outputs) and found.outputs.keys() >= set(task.single_outputs)
