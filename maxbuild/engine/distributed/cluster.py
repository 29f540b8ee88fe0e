"""A dask cluster, as far as a build has to do with it: errands go in, answers and trouble come out in our words."""

from __future__ import annotations

import secrets
import threading
import time
from contextlib import suppress
from typing import Any

from distributed import Client, Future, KilledWorker

from maxbuild.engine.cancelled import Cancelled
from maxbuild.engine.children import Children
from maxbuild.engine.distributed.wire import Answer, Errand
from maxbuild.engine.distributed.worker import carry_out_order
from maxbuild.errors import MaxbuildError, TaskFailed, printable

_REACH = 10.0
_GLANCE = 0.05
_COUNT = 2.0


class Cluster:
    """The workers of one scheduler. Any thread may send an errand."""

    def __init__(self, address: str, patience: float) -> None:
        """Connect to the scheduler at `address`; MaxbuildError when it cannot be reached.

        patience: how many seconds to wait for a cluster that has no workers.
        """
        self._address = address
        self._patience = patience
        self._mutex = threading.Lock()
        self._counted = self._peopled = 0.0
        """When the workers were counted, and when there were some, last."""
        try:
            self._client = Client(address, timeout=_REACH, set_as_default=False, name="maxbuild")
        except (OSError, ValueError) as error:
            raise MaxbuildError(
                f"could not reach a dask scheduler at {address}",
                causes=[printable(str(error))],
                hint="start one with `dask scheduler`, or leave out --executor",
            ) from error

    def close(self) -> None:
        """Leave the cluster; what runs there for this build ends."""
        self._client.close(timeout=_REACH)

    def send(self, errand: Errand, children: Children) -> Answer:
        """Have a worker carry out `errand`; Cancelled, and nothing left to run, when `children` are told to stop."""
        # A key of its own for each: what two builds shared, the one could cancel for the other.
        key = f"{errand.document.kind}-{errand.key[:16]}-{secrets.token_hex(8)}"
        future = self._client.submit(carry_out_order, errand.to_text(), key=key, pure=False)
        try:
            return self._wait(errand.name, future, children)
        finally:
            if not future.done():
                with suppress(OSError, TimeoutError):  # a scheduler that is gone runs nothing
                    future.cancel()
            future.release()

    def _wait(self, name: str, future: Future[Any], children: Children) -> Answer:
        begin = time.monotonic()
        while not children.stop.wait(_GLANCE):
            match future.status:
                case "finished":
                    with suppress(TimeoutError):  # it was lost with the worker that had it, and is made again
                        return Answer.from_text(future.result(timeout=_REACH))
                case "error":
                    raise self._failure(name, future.exception(timeout=_REACH))
                case "cancelled":
                    raise TaskFailed(f"lost the dask scheduler at {self._address} while task `{name}` ran there")
                case _:
                    self._check_for_workers(name, begin)
        raise Cancelled

    def _failure(self, name: str, error: BaseException | None) -> TaskFailed:
        """Return what it means that dask could not have the errand carried out."""
        if isinstance(error, KilledWorker):
            times = error.allowed_failures + 1
            return TaskFailed(
                f"task `{name}` failed",
                causes=[f"{times} workers died while they carried it out, most likely for want of memory"],
                hint=f"see the log of worker {error.last_worker.address}, or give the workers more memory",
            )
        return TaskFailed(
            f"the workers at {self._address} could not begin task `{name}`",
            causes=[printable(f"{type(error).__name__}: {error}")],
            hint="install the same maxbuild, dask and Python on all workers and where the build runs",
        )

    def _check_for_workers(self, name: str, begin: float) -> None:
        """Raise TaskFailed when there has been no worker for longer than anybody wants to wait."""
        with self._mutex:
            now = time.monotonic()
            if now - self._counted >= _COUNT:
                self._counted = now
                with suppress(OSError, TimeoutError):  # a scheduler that is gone is told by the future
                    self._peopled = now if self._client.nthreads() else self._peopled
            if now - max(begin, self._peopled) > self._patience:
                raise TaskFailed(
                    f"no worker took task `{name}` within {self._patience:g} s",
                    causes=[f"the dask scheduler at {self._address} has no workers"],
                    hint=f"start some with `dask worker {self._address}`",
                )
