"""The scheduler: what a build comes to. What is ready, `build` decides; workers are called in only for work.

Invariant: a build that finds nothing to do starts no thread and imports nothing that runs tasks.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping
from contextlib import closing
from typing import TYPE_CHECKING

from maxbuild.engine.build import Build, Node, Phase, Wishes
from maxbuild.engine.events import OnEvent, ignore
from maxbuild.engine.graph import Plan
from maxbuild.engine.report import Report
from maxbuild.engine.sources import read_sources
from maxbuild.engine.store import Store
from maxbuild.engine.task import Kind
from maxbuild.errors import TaskFailed

if TYPE_CHECKING:
    from maxbuild.engine.executor import Executor
    from maxbuild.engine.sharing import Sharing


def execute(
    plan: Plan,
    store: Store,
    kinds: Mapping[str, Kind],
    *,
    scope: str,
    jobs: int,
    memory: int | None = None,
    keep_going: bool = False,
    frozen: bool = False,
    only: Collection[str] = (),
    rerun: Container[str] = (),
    executor: Executor | None = None,
    sharing: Sharing | None = None,
    on_event: OnEvent = ignore,
) -> Report:
    """Bring every task of `plan` to a result, running only what `store` lacks, and report what became of each.

    `scope` is where reasons are told against what ran before (the manifest's name). `jobs` tasks run at once, as long
    as what they declare stays within `memory` bytes; a few that transfer run beside them. The first failure lets no
    further task start, unless `keep_going`.
    `frozen`: nothing runs; a task that is neither in the store nor shared fails with WorkFound. `only` names tasks to
    build, with all they consume from; `rerun` names tasks to run whatever the store has. Steps are carried out by
    `executor`, on this host where none is given; what `sharing` covers is asked for before it runs, and offered after.
    An interrupt (Ctrl-C) kills what runs and is told by `Report.interrupted`. A failed task is told in the report;
    StoreError is raised when the disk or the store fails, ValueError for a plan that makes no sense. What was found or
    built stays until `store` is closed, whoever collects. One `execute` at a time for each Store.
    """
    if jobs < 1:
        raise ValueError("at least one job")
    build = Build(plan, store, Wishes(scope, rerun, only), on_event)
    build.advance()
    if not build.ready:
        return build.report()
    # Imported here: only work needs workers.
    from maxbuild.engine.executor import LocalExecutor  # noqa: PLC0415
    from maxbuild.engine.running import Execution, Limits  # noqa: PLC0415

    limits, own = Limits(jobs, memory), LocalExecutor()
    with closing(own):
        return Execution(build, kinds, limits, executor or own, sharing, keep_going=keep_going, frozen=frozen).run()


def survey(plan: Plan, store: Store, *, scope: str, only: Collection[str] = (), rerun: Container[str] = ()) -> Report:
    """Report what `execute` would do as far as it can be known now, and run nothing."""
    build = Build(plan, store, Wishes(scope, rerun, only, dry=True), ignore)
    build.advance()
    while (node := _next_unread(build)) is not None:
        try:
            build.sources_read(node, read_sources(store, node.task, build.unread_sources(node.task)))
        except TaskFailed as error:
            build.fail(node, error)
        build.advance()
    return build.report()


def _next_unread(build: Build) -> Node | None:
    return next((node for node in build.nodes.values() if node.phase is Phase.UNREAD), None)
