"""One build as it stands: the graph, and for every task the phase it is in. It decides; it runs nothing itself.

    phase      what is true                                            leaves it for
    WAITING    a producer has no result yet, or none was looked at     UNREAD, READY, SETTLED, DEAD
    UNREAD     producers are settled; a source file was never read     RUNNING (a worker reads it), then WAITING
    READY      its document is known, and why it has to run            RUNNING; WAITING if a producer changed
    RUNNING    a worker has it                                         SETTLED, DEAD; WAITING if an input was lost
    SETTLED    it has a result whose blobs are all there               WAITING if a consumer found a blob lost
    DEAD       it failed, was interrupted, or consumes from such       -

Its one clock is the results so far: the same results always lead to the same phases.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import NamedTuple

from maxbuild.engine.digest import Digest, TaskKey
from maxbuild.engine.events import GraphGrew, OnEvent, TaskFinished
from maxbuild.engine.graph import Plan, TaskGraph
from maxbuild.engine.lookup import Hit, Miss, describe, look_up, note_hit
from maxbuild.engine.records import Record, Result
from maxbuild.engine.report import Report, State, TaskReport
from maxbuild.engine.store import Store
from maxbuild.engine.task import SourceFile, Task
from maxbuild.errors import MaxbuildError, TaskFailed, UsageError


class Phase(Enum):
    """Where a task stands; the table at the top of this module says what is true in each phase."""

    WAITING = auto()
    UNREAD = auto()
    READY = auto()
    RUNNING = auto()
    SETTLED = auto()
    DEAD = auto()


@dataclass(slots=True)
class Node:
    """One task of the build. `miss` is set from READY on, `report` once there is something final to say."""

    task: Task
    phase: Phase = Phase.WAITING
    miss: Miss | None = None
    report: TaskReport | None = None
    ran: bool = False
    losses: int = 0
    queued: bool = False
    """Whether it waits to be considered."""


class Wishes(NamedTuple):
    """What a caller asks of a build.

    `scope` is where reasons are told, `rerun` the tasks to run whatever the store has, `only` those to build alone;
    a `dry` build leaves no note of what it found done.
    """

    scope: str
    rerun: Container[str] = ()
    only: Collection[str] = ()
    dry: bool = False


@dataclass(slots=True)
class Build:
    """The state of one build over `store`."""

    plan: Plan
    store: Store
    wishes: Wishes
    on_event: OnEvent
    graph: TaskGraph = field(default_factory=TaskGraph)
    nodes: dict[str, Node] = field(default_factory=dict)
    results: dict[str, Result] = field(default_factory=dict)
    sources: dict[Path, Digest] = field(default_factory=dict)
    """What every source file holds, for the whole build: all its tasks see the same content."""
    ready: deque[str] = field(default_factory=deque)
    """The tasks in phase UNREAD or READY, in the order in which a worker shall take them."""
    failed: bool = False
    """Whether any task has failed."""
    _unsure: deque[str] = field(default_factory=deque)
    _needed: set[str] = field(default_factory=set)
    _news: bool = True

    def advance(self) -> None:
        """Take every task as far as it goes without a worker."""
        if not (self._unsure or self._news):
            return
        with _uncollected(), nullcontext() if self.wishes.dry else self.store.steady():
            while self._unsure or self._news:
                while self._unsure:
                    node = self.nodes[self._unsure.popleft()]
                    node.queued = False
                    self._consider(node)
                self._grow()

    def next_ready(self, queue: deque[str], fits: Callable[[Node], bool]) -> Node | None:
        """Take the next task of `queue` that a worker can have and that `fits`; None when there is none.

        What is in `queue` was in `ready` before.
        """
        passed_over = []
        try:
            while queue:
                node = self.nodes[queue.popleft()]
                if node.phase not in (Phase.UNREAD, Phase.READY):  # it went back since it was put there
                    continue
                if node.phase is Phase.UNREAD or fits(node):
                    return node
                passed_over.append(node.task.name)
            return None
        finally:
            queue.extendleft(reversed(passed_over))

    def is_forced(self, node: Node) -> bool:
        """Return whether a task is to run whatever the store has: once in a build is enough."""
        return self._is_wished(node.task) and not node.ran

    def unread_sources(self, task: Task) -> list[Path]:
        """Return the source files of `task` whose content is not known without reading them."""
        unread = []
        for source in task.inputs.values():
            if isinstance(source, SourceFile) and source.path not in self.sources:
                digest = self.store.known_source(source.path)
                if digest is None:
                    unread.append(source.path)
                else:
                    self.sources[source.path] = digest
        return unread

    def sources_read(self, node: Node, digests: Mapping[Path, Digest]) -> None:
        """Go on with a task whose source files were read."""
        self.sources.update(digests)
        self._reopen(node)

    def done(self, node: Node, record: Record, state: State) -> None:
        """Go on from a task that a worker brought to its end: BUILT, FETCHED, or found done after all (CACHED)."""
        node.ran = node.ran or state is State.BUILT
        if state is State.CACHED or node.miss is None:
            self._found(node, record)
        else:
            node.report = self._record_report(node, state, record, node.miss)
        if self._is_current(node, record.key):
            self._settle(node, record.result)
        else:
            self._reopen(node)
        if state is State.BUILT and self._is_wished(node.task):
            self._reopen_twins(record)

    def fail(self, node: Node, error: MaxbuildError) -> None:
        """Go on from a task that failed with `error`."""
        self.failed = True
        self._end(node, State.FAILED, error)

    def interrupt(self, node: Node) -> None:
        """Go on from a task that was stopped half-way."""
        self._end(node, State.INTERRUPTED)

    def lose(self, node: Node, role: str, most: int) -> None:
        """Go back from a task whose input `role` was lost, and to its producer; after `most` times it fails."""
        node.losses += 1
        source = node.task.inputs[role]
        if node.losses > most:
            self.fail(node, TaskFailed(f"input `{role}` of task `{node.task.name}` does not stay what it is"))
            return
        if isinstance(source, SourceFile):
            self.sources.pop(source.path, None)
        elif self.nodes[source.task].phase is Phase.SETTLED:
            self._reopen(self.nodes[source.task])
        self._reopen(node)

    def report(self, *, interrupted: bool = False) -> Report:
        """Return what became of every task that was wanted."""
        if not self.wishes.dry:
            self.store.set_newest(self.wishes.scope, self._newest_keys())
        return Report(
            tasks=[self._final(node) for name, node in self.nodes.items() if name in self._needed or node.ran],
            results=dict(self.results),
            task_graph=self.graph,
            deferred=tuple(self.plan.deferred(self.results)),
            interrupted=interrupted,
        )

    def _newest_keys(self) -> dict[str, TaskKey]:
        """Return the keys of the tasks that have a result, and of those that this build did not come to."""
        before = self.store.newest(self.wishes.scope)
        settled = {
            name: node.report.key
            for name, node in self.nodes.items()
            if node.phase is Phase.SETTLED and node.report is not None and node.report.key is not None
        }
        return settled if len(settled) == len(self.nodes) else {**before, **settled}

    def _grow(self) -> None:
        """Add the tasks that became known by the results so far, and find out which tasks are needed now."""
        if not self._news:
            return
        self._news = False
        names = self.graph.add(self.plan.grow(self.results) if self.nodes else self.plan.tasks)
        if not self.nodes:
            self.store.read_ahead(self.wishes.scope, self._source_paths(names))
        for name in names:
            self.nodes[name] = Node(self.graph.task(name))
        if names or self.wishes.only:  # what is needed of few can change with every result; all is always all
            before = self._needed
            self._needed = self._find_needed()
            for name in self.nodes:
                if name in self._needed and name not in before:
                    self._recheck(self.nodes[name])
        if names:
            self._news = True  # a plan may have more to say about a graph it has just seen grow
            self.on_event(GraphGrew(tuple(names)))

    def _source_paths(self, names: Iterable[str]) -> Iterator[Path]:
        for name in names:
            for source in self.graph.task(name).inputs.values():
                if isinstance(source, SourceFile):
                    yield source.path

    def _find_needed(self) -> set[str]:
        only = self.wishes.only
        if not only:
            return set(self.nodes)
        unknown = [name for name in only if name not in self.nodes]
        deferred = self.plan.deferred(self.results)
        if unknown and not deferred:
            from difflib import get_close_matches  # noqa: PLC0415 - for a message

            near = get_close_matches(unknown[0], self.nodes, n=1)
            hint = f"did you mean `{near[0]}`?" if near else None
            raise UsageError(f"there is no task named `{unknown[0]}`", hint=hint)
        return self.graph.with_producers([*only, *(part.after for part in deferred if unknown)])

    def _consider(self, node: Node) -> None:
        """Take a waiting task to its next phase, if its producers allow."""
        if node.phase is not Phase.WAITING or node.task.name not in self._needed:
            return
        settled = True
        for name in self.graph.producers(node.task.name):
            phase = self.nodes[name].phase
            if phase is Phase.DEAD:
                self._end(node, State.SKIPPED)
                return
            settled = settled and phase is Phase.SETTLED
        if not settled:
            return
        if self.unread_sources(node.task):
            node.phase = Phase.UNREAD
            self.ready.append(node.task.name)
        else:
            self._look_up(node)

    def _look_up(self, node: Node) -> None:
        name, scope = node.task.name, self.wishes.scope
        try:
            document = describe(node.task, self.results, self.sources)
        except TaskFailed as error:
            self.fail(node, error)
            return
        match look_up(self.store, scope, name, document, forced=self.is_forced(node)):
            case Hit(key, record):
                if not self.wishes.dry:
                    self.store.claim(key)
                if node.report is None or node.report.key != key:
                    self._found(node, record)
                self._settle(node, record.result)
            case Miss() as miss:
                node.phase, node.miss = Phase.READY, miss
                self.ready.append(name)

    def _is_wished(self, task: Task) -> bool:
        return task.always or task.name in self.wishes.rerun

    def _found(self, node: Node, record: Record) -> None:
        node.report = self._record_report(node, State.CACHED, record, None)
        if not self.wishes.dry:
            note_hit(self.store, self.wishes.scope, node.task.name, record)

    def _settle(self, node: Node, result: Result) -> None:
        name = node.task.name
        before = self.results.get(name)
        node.phase = Phase.SETTLED
        self.results[name] = result
        self._news = self._news or before != result
        changed = before is not None and before != result
        for consumer in (self.nodes[name] for name in self.graph.consumers(name)):
            if changed and consumer.phase in (Phase.READY, Phase.SETTLED):
                self._reopen(consumer)
            else:
                self._recheck(consumer)
        if node.report is not None:
            self.on_event(TaskFinished(node.report))

    def _reopen(self, node: Node) -> None:
        node.phase = Phase.WAITING
        self._recheck(node)

    def _recheck(self, node: Node) -> None:
        """Have `node` considered; once is enough, however many ask for it."""
        if not node.queued:
            node.queued = True
            self._unsure.append(node.task.name)

    def _reopen_twins(self, record: Record) -> None:
        """Look again at tasks that had found under one key what a forced run has replaced."""
        for twin in self.nodes.values():
            found = twin.report.key if twin.report is not None else None
            if twin.phase is Phase.SETTLED and found == record.key and self.results[twin.task.name] != record.result:
                self._reopen(twin)

    def _is_current(self, node: Node, key: TaskKey) -> bool:
        """Return whether the work under `key` is still what `node` stands for, now that a worker is done with it."""
        if any(self.nodes[name].phase is not Phase.SETTLED for name in self.graph.producers(node.task.name)):
            return False
        return describe(node.task, self.results, self.sources).key() == key

    def _end(self, node: Node, state: State, error: MaxbuildError | None = None) -> None:
        node.phase = Phase.DEAD
        miss = None if state is State.SKIPPED else node.miss
        node.report = TaskReport(
            name=node.task.name,
            kind=node.task.kind,
            state=state,
            explanations=miss.explanations if miss else (),
            error=error,
            key=node.miss.key if node.miss else None,
            document=miss.document if miss else None,
            find_log=self.store.log_path,
        )
        for name in self.graph.consumers(node.task.name):
            self._recheck(self.nodes[name])
        self.on_event(TaskFinished(node.report))

    def _record_report(self, node: Node, state: State, record: Record, miss: Miss | None) -> TaskReport:
        return TaskReport(
            name=node.task.name,
            kind=node.task.kind,
            state=state,
            explanations=miss.explanations if miss else (),
            seconds=record.seconds,
            bytes=record.size,
            key=record.key,
            document=miss.document if miss else None,
            find_log=self.store.log_path,
        )

    def _final(self, node: Node) -> TaskReport:
        if node.phase in (Phase.SETTLED, Phase.DEAD) and node.report is not None:
            return node.report
        task, miss = node.task, node.miss
        if node.phase is Phase.READY and miss is not None:
            return TaskReport(
                task.name, task.kind, State.WOULD_RUN, miss.explanations, key=miss.key, document=miss.document
            )
        return TaskReport(task.name, task.kind, State.WAITING)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep Python from looking for garbage: what is made here stays, and the search takes a tenth of a null build."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            if not gc.get_freeze_count():
                # There and back makes all objects old without a look at them: else one look at all would follow now.
                gc.freeze()
                gc.unfreeze()
            gc.enable()
