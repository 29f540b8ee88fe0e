"""Executors: where the step of a task is carried out. What is handed over is a document and files, never a closure."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from maxbuild.engine import disk
from maxbuild.engine.document import Document
from maxbuild.engine.isolation import Children, failure, run_isolated, with_log
from maxbuild.engine.steps import call_step
from maxbuild.engine.task import Job, Kind
from maxbuild.errors import MaxbuildError


@dataclass(frozen=True, slots=True)
class Order:
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
    """Carries out steps on this host: isolated kinds in a process of their own, others in the calling thread."""

    def run(self, order: Order, children: Children) -> Mapping[str, Path]:
        """Carry out `order` here."""
        if order.kind.isolated:
            return run_isolated(order.name, order.kind.run, order.job, order.log, children)
        return _run_here(order)

    def close(self) -> None:
        """Hold nothing."""


def _run_here(order: Order) -> Mapping[str, Path]:
    try:
        return call_step(order.kind.run, order.job)
    except MaxbuildError as error:
        _keep_traceback(order.log)
        raise with_log(error, order.log) from None
    except Exception as error:
        if isinstance(error, OSError) and disk.is_full(error):
            raise disk.storage_error(error, "write in", order.job.scratch) from error
        _keep_traceback(order.log)
        cause = traceback.format_exception_only(error)[-1].strip()
        raise failure(order.name, cause, order.log) from error


def _keep_traceback(log: Path) -> None:
    disk.unlink(log)
    disk.write_file(log, traceback.format_exc().encode(errors="backslashreplace"))
