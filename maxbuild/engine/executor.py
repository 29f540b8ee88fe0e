"""Executors: where the step of a task is carried out. What is handed over is a document and files, never a closure."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from maxbuild.engine import disk
from maxbuild.engine.children import Children
from maxbuild.engine.document import Document
from maxbuild.engine.steps import call_step, failure
from maxbuild.engine.task import Job, Kind
from maxbuild.errors import MaxbuildError, StoreError

if TYPE_CHECKING:
    from maxbuild.engine.nursery import Nursery


class Order(NamedTuple):
    """One step to carry out: what it is (`document`, for an executor elsewhere), and its `job` on this host.

    What it prints belongs into `log`. `name` is for messages.
    """

    name: str
    kind: Kind
    document: Document
    job: Job
    log: Path


class Executor(Protocol):
    """Carries out steps, several at a time, each call in a thread of its own."""

    def run(self, order: Order, children: Children) -> Mapping[str, Path]:
        """Carry out `order` and return its outputs, files on this host: under the job's scratch, or where they lie.

        Raises a MaxbuildError when the step fails, and Cancelled when `children.stop` is set.
        """

    def close(self) -> None:
        """Let go of what the executor holds; nothing runs any more."""


class LocalExecutor:
    """Carries out steps on this host: isolated kinds in a process of their own, others in the calling thread.

    Kinds that preload get their processes from a nursery, one for each thing to preload.
    """

    def __init__(self, command: Sequence[str] = ()) -> None:
        """Take what isolated steps are started with, where it is not as usual."""
        self._command = command
        self._mutex = threading.Lock()
        self._nurseries: dict[str, Nursery] = {}

    def run(self, order: Order, children: Children) -> Mapping[str, Path]:
        """Carry out `order` here."""
        try:
            if order.kind.isolated:
                from maxbuild.engine.isolation import run_isolated  # noqa: PLC0415 - not where all runs in threads

                nursery = self._nursery_of(order.kind)
                return run_isolated(
                    order.name, order.kind.run, order.job, order.log, children, self._command, nursery=nursery
                )
            return _run_here(order)
        except MaxbuildError as error:
            raise with_log(error, order.log) from error.__cause__

    def _nursery_of(self, kind: Kind) -> Nursery | None:
        """Return the nursery of a kind that preloads; None where steps start otherwise, or there are no pidfds."""
        if kind.preload is None or self._command or not hasattr(os, "pidfd_open"):
            return None
        from maxbuild.engine.nursery import Nursery  # noqa: PLC0415 - not where no kind has one

        with self._mutex:
            nursery = self._nurseries.setdefault(kind.preload, Nursery(kind.preload))
            for other in self._nurseries.values():
                if other is not nursery:
                    other.rest()  # kinds follow on each other: what was imported for one would lie there for nothing
        return nursery

    def close(self) -> None:
        """End the nurseries; another run would start them again."""
        with self._mutex:
            nurseries, self._nurseries = self._nurseries, {}
        for nursery in nurseries.values():
            nursery.close()


def keep_log(log: Path, text: str) -> None:
    """Make `text` what the file `log` says, whatever it said before."""
    disk.unlink(log)
    disk.write_file(log, text.encode(errors="backslashreplace"))


def with_log(error: MaxbuildError, log: Path) -> MaxbuildError:
    """Return `error`; one that has no hint of its own gets the log as its hint."""
    if error.hint is None and not isinstance(error, StoreError):
        error.hint = f"see the whole output in {log}"
    return error


def _run_here(order: Order) -> Mapping[str, Path]:
    try:
        return call_step(order.kind.run, order.job)
    except Exception as error:
        import traceback  # noqa: PLC0415 - with all that reads source code, for what seldom happens

        if isinstance(error, OSError) and disk.is_full(error):
            raise disk.storage_error(error, "write in", order.job.scratch) from error
        keep_log(order.log, traceback.format_exc())
        if isinstance(error, MaxbuildError):
            raise
        raise failure(order.name, traceback.format_exception_only(error)[-1].strip()) from error
