"""What helps a build from outside: a remote cache, an executor elsewhere, somebody who watches.

All are known at the start, so that mistakes are told at once, and reached when there is something to do for them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from maxbuild.errors import UsageError

if TYPE_CHECKING:
    from maxbuild.engine.executor import Executor
    from maxbuild.engine.lint import LintReport
    from maxbuild.engine.sharing import Sharing


@contextmanager
def open_sharing(url: str | None, instance: str, *, write: bool, weights: bool) -> Iterator[Sharing | None]:
    """Lend the remote cache at `url`, None without one; UsageError for an address or options that make no sense."""
    if not url:
        for option, given in (("--remote-write", write), ("--remote-weights", weights)):
            if given:
                raise UsageError(f"`{option}` needs a remote cache", hint="name one with `--remote` or MAXBUILD_REMOTE")
        yield None
        return
    # Imported here: a build without a remote cache has no use for it. It imports no network library itself.
    from maxbuild.engine.remote import open_remote  # noqa: PLC0415
    from maxbuild.engine.sharing import Sharing  # noqa: PLC0415

    with closing(open_remote(url, instance=instance, write=write, environ=os.environ)) as cache:
        yield Sharing(cache, weights)


@contextmanager
def open_executor(spec: str | None, sharing: Sharing | None) -> Iterator[Executor | None]:
    """Lend the executor that `spec` names, None without one; UsageError for one that makes no sense."""
    if not spec:
        yield None
        return
    # Imported here for the same reason; it connects when the first task is to be carried out.
    from maxbuild.engine import distributed  # noqa: PLC0415

    with closing(distributed.open_executor(spec, sharing, os.environ)) as executor:
        yield executor


@dataclass(frozen=True, slots=True)
class Linting:
    """An executor that watches, and what it has seen of each task so far."""

    executor: Executor
    reports: list[LintReport] = field(default_factory=list)


@contextmanager
def open_lint(*, wanted: bool) -> Iterator[Linting | None]:
    """Lend an executor that watches what it carries out, None where it is not wanted."""
    if not wanted:
        yield None
        return
    # Imported here: hardly any build is linted.
    from maxbuild.engine.lint import LintingExecutor  # noqa: PLC0415
    from maxbuild.steps.hermeticity import allowances  # noqa: PLC0415

    reports: list[LintReport] = []
    with closing(LintingExecutor(reports.append, allowances())) as executor:
        yield Linting(executor, reports)
