"""The build's side: sends steps that may be carried out elsewhere to a cluster, and has the rest done on this host."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from maxbuild.engine import disk
from maxbuild.engine.children import Children
from maxbuild.engine.digest import Digest
from maxbuild.engine.distributed.wire import Answer, Errand
from maxbuild.engine.executor import LocalExecutor, Order, keep_log, with_log
from maxbuild.engine.remote import RemoteCache
from maxbuild.errors import MaxbuildError, StoreError, TaskFailed

if TYPE_CHECKING:
    from maxbuild.engine.distributed.cluster import Cluster


class DaskExecutor:
    """Sends steps to the cluster of one scheduler, content by way of a remote cache.

    A task travels when its kind names a toolchain to compare, and nothing of it is `local`: what is local to this host,
    a path or a token, stays here, and so does the task.
    """

    def __init__(self, address: str, cache: RemoteCache, *, patience: float) -> None:
        """Take the scheduler's address, and how many seconds to wait for a cluster that has no workers."""
        self._address = address
        self._cache = cache
        self._patience = patience
        self._here = LocalExecutor()
        self._mutex = threading.Lock()
        self._cluster: Cluster | None = None
        self._unreachable: MaxbuildError | None = None

    def run(self, order: Order, children: Children) -> Mapping[str, Path]:
        """Carry out `order`, by a worker where it may travel."""
        if order.kind.toolchain is None or order.job.local:
            return self._here.run(order, children)
        disk.unlink(order.log)
        cluster = self._connected()
        answer = cluster.send(self._prepare(order, order.kind.toolchain), children)
        keep_log(order.log, f"[worker {answer.worker}]\n{answer.log}")
        if answer.error is not None:
            raise with_log(_as_of_worker(answer.error, order.name), order.log)
        return self._fetch(order, answer)

    def close(self) -> None:
        """Leave the cluster; what runs there for this build ends."""
        with self._mutex:
            cluster, self._cluster = self._cluster, None
        if cluster is not None:
            cluster.close()
        self._here.close()

    def _connected(self) -> Cluster:
        """Return the cluster, connected on first need; one that cannot be reached is tried once."""
        from maxbuild.engine.distributed.cluster import Cluster  # noqa: PLC0415 - imports dask

        with self._mutex:
            if self._unreachable is not None:
                raise self._unreachable
            if self._cluster is None:
                try:
                    self._cluster = Cluster(self._address, self._patience)
                except MaxbuildError as error:
                    self._unreachable = error
                    raise
            return self._cluster

    def _prepare(self, order: Order, toolchain: str) -> Errand:
        """Return the errand, once everything that it consumes is in the remote cache."""
        sizes = {}
        for role, path in order.job.inputs.items():
            sizes[role] = path.stat().st_size
            if not self._cache.store_blob(order.job.digests[role], path):
                raise self._trouble(f"could not hand over input `{role}` of task `{order.name}`")
        url, _, instance = self._cache.address.rpartition("/")
        document = order.document
        return Errand(order.name, document.key(), document, sizes, order.kind.run, toolchain, url, instance)

    def _fetch(self, order: Order, answer: Answer) -> Mapping[str, Path]:
        """Return the outputs, files under the job's scratch whose bytes are what the worker says they are."""
        outputs = answer.outputs or {}
        paths: dict[Digest, Path] = {}
        for number, (name, output) in enumerate(outputs.items()):
            if output.digest not in paths:
                path = order.job.scratch / f"fetched-{number}"  # a name of ours: theirs could lead anywhere
                if not self._cache.fetch(output.digest, output.size, path):
                    raise self._trouble(f"could not fetch output `{name}` of task `{order.name}`")
                paths[output.digest] = path
        return {name: paths[output.digest] for name, output in outputs.items()}

    def _trouble(self, what: str) -> TaskFailed:
        why = self._cache.statistics().trouble or f"the remote cache at {self._cache.address} does not have it"
        return TaskFailed(what, causes=[why], hint="a build without --executor can do without the remote cache")


def _as_of_worker(error: MaxbuildError, name: str) -> MaxbuildError:
    """Return `error` as this host should take it: the disk of a worker is not the store of the build."""
    if isinstance(error, StoreError):
        return TaskFailed(f"task `{name}` failed on its worker", causes=[error.message, *error.causes])
    return error
