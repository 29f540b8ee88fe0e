"""The running of a build: gives ready tasks to workers until nothing is left to do."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from maxbuild.engine.build import Build, Node, Phase
from maxbuild.engine.children import Children
from maxbuild.engine.crew import Broken, Crew, Done, Lost, Message, Progressed, SourcesRead, Started, Waits
from maxbuild.engine.events import TaskProgress, TaskStarted, TaskWaits
from maxbuild.engine.execution import Assignment, Facilities, Listener, LostInput, carry_out
from maxbuild.engine.executor import Executor
from maxbuild.engine.report import Report
from maxbuild.engine.sharing import Sharing
from maxbuild.engine.sources import read_sources
from maxbuild.engine.store import Store
from maxbuild.engine.task import Kind, Task
from maxbuild.errors import MaxbuildError, StoreError

MOST_TRANSFERS = 8
"""How many tasks transfer at once unless somebody says otherwise: as many as huggingface_hub does."""
_MOST_LOSSES = 3
_PATIENCE = 5.0


class Limits(NamedTuple):
    """How much may run at once: `jobs` tasks, of `memory` bytes in all by what they declare (None: no limit).

    Beside them, `transfers` tasks of kinds that transfer.
    """

    jobs: int
    memory: int | None = None
    transfers: int = MOST_TRANSFERS


@dataclass(slots=True)
class _Lane:
    """Tasks that share `places`: those that are ready, in order, and those that run."""

    places: int
    ready: deque[str] = field(default_factory=deque)
    running: set[str] = field(default_factory=set)

    @property
    def free(self) -> bool:
        """Return whether another of them would start at once."""
        return len(self.running) < self.places


class Execution:
    """One run of `execute`."""

    def __init__(
        self,
        build: Build,
        kinds: Mapping[str, Kind],
        limits: Limits,
        executor: Executor,
        sharing: Sharing | None,
        *,
        keep_going: bool,
        frozen: bool,
    ) -> None:
        self._build = build
        self._kinds = kinds
        self._limits = limits
        self._keep_going = keep_going
        self._frozen = frozen
        self._children = Children()
        self._facilities = Facilities(build.store, executor, self._children, sharing)
        self._work, self._transfers = _Lane(limits.jobs), _Lane(limits.transfers)
        self._crew = Crew(build.store)
        self._memory: dict[str, int] = {}
        """What every running task declares, of those that declare any."""
        self._fatal: BaseException | None = None

    def run(self) -> Report:
        """Go on until no worker has anything and none can be given anything."""
        try:
            self._loop()
            if self._fatal is not None:
                raise self._fatal
            return self._build.report()
        except KeyboardInterrupt:
            self._children.kill_all()
            for node in [node for node in self._build.nodes.values() if node.phase is Phase.RUNNING]:
                self._build.interrupt(node)
            return self._build.report(interrupted=True)
        finally:
            if self._crew.busy:
                self._children.kill_all()
            self._crew.dismiss(_PATIENCE)

    def _loop(self) -> None:
        while True:
            self._build.advance()
            self._sort()
            for lane in (self._transfers, self._work):
                while lane.free and self._may_start and (node := self._next(lane)) is not None:
                    self._hand_over(node, lane)
            if not self._crew.busy:
                return
            self._take(self._crew.next())

    def _sort(self) -> None:
        """Put what has become ready into its lane."""
        while self._build.ready:
            name = self._build.ready.popleft()
            node = self._build.nodes[name]
            kind = self._kinds.get(node.task.kind)
            transfers = node.phase is not Phase.UNREAD and kind is not None and kind.transfers
            (self._transfers if transfers else self._work).ready.append(name)

    def _next(self, lane: _Lane) -> Node | None:
        return self._build.next_ready(lane.ready, self._fits)

    @property
    def _may_start(self) -> bool:
        """Return whether anything further may start."""
        return self._fatal is None and (self._keep_going or not self._build.failed)

    def _fits(self, node: Node) -> bool:
        """Return whether `node` can run beside what runs; alone, everything can."""
        limit = self._limits.memory
        return limit is None or not self._memory or sum(self._memory.values()) + node.task.memory <= limit

    def _hand_over(self, node: Node, lane: _Lane) -> None:
        if node.phase is Phase.UNREAD:
            unread = self._build.unread_sources(node.task)
            work = partial(_guarded_read, self._build.store, node.task, unread)
        else:
            if node.task.memory:
                self._memory[node.task.name] = node.task.memory
            work = partial(self._carry_out, self._assignment(node))
        node.phase = Phase.RUNNING
        lane.running.add(node.task.name)
        self._crew.submit(work)

    def _assignment(self, node: Node) -> Assignment:
        task = node.task
        if node.miss is None or task.kind not in self._kinds:
            raise ValueError(f"task `{task.name}` is of the unknown kind `{task.kind}`")
        forced = self._build.is_forced(node)
        return Assignment(task, node.miss, self._kinds[task.kind], self._build.wishes.scope, forced, self._frozen)

    def _carry_out(self, assignment: Assignment) -> Message:
        """Carry out one task in a worker thread and say how it ended."""
        name = assignment.task.name
        tell = self._crew.tell
        listener = Listener(
            started=lambda: tell(Started(name)),
            progress=lambda done, total: tell(Progressed(name, done, total)),
            waits=lambda holder: tell(Waits(name, holder)),
        )
        try:
            outcome = carry_out(assignment, self._facilities, listener)
        except LostInput as lost:
            return Lost(name, lost.role)
        except BaseException as error:  # noqa: BLE001 - a thread has nobody above it: the scheduler judges
            return Broken(name, error)
        return Done(name, outcome)

    def _take(self, message: Message) -> None:
        node = self._build.nodes[message.name]
        if isinstance(message, SourcesRead | Done | Lost | Broken):
            self._memory.pop(message.name, None)
            self._work.running.discard(message.name)
            self._transfers.running.discard(message.name)
        match message:
            case Started(name):
                self._build.on_event(TaskStarted(name))
            case Progressed(name, done, total):
                self._build.on_event(TaskProgress(name, done, total))
            case Waits(name, holder):
                self._build.on_event(TaskWaits(name, holder))
            case SourcesRead(_, digests):
                self._build.sources_read(node, digests)
            case Done(_, outcome):
                self._build.done(node, outcome.record, outcome.state)
            case Lost(_, role):
                self._build.lose(node, role, _MOST_LOSSES)
            case Broken(_, error):
                self._break(node, error)

    def _break(self, node: Node, error: BaseException) -> None:
        """Judge an error: a task's failure is the task's, anything else ends the build."""
        if isinstance(error, MaxbuildError) and not isinstance(error, StoreError):
            self._build.fail(node, error)
        else:
            self._fatal = self._fatal or error
            self._children.kill_all()


def _guarded_read(store: Store, task: Task, paths: Collection[Path]) -> Message:
    try:
        return SourcesRead(task.name, read_sources(store, task, paths))
    except BaseException as error:  # noqa: BLE001 - a thread has nobody above it: the scheduler judges
        return Broken(task.name, error)
