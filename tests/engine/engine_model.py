"""The engine's model: what a build must do, told from graph, contents and history alone, in plain Python.

It knows no digest, stat tuple, thread or file: content is text, and a document is the set of facts that make a task
the work it is. A task runs because its facts are not done, or what they left is not there; the reasons are the facts
that differ from those of last time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import TypeAlias

from conftest import Source
from toy_graph import Content, Graph, evaluate

from maxbuild.engine import Report, SourceFile, State, Task, TaskReport

Facts: TypeAlias = "frozenset[tuple[str, str, str]]"
"""What a task is: reason to give when it differs, what it is called, what it says."""
Told: TypeAlias = "frozenset[tuple[str, str]]"
"""Reasons, each with what it is about."""


def facts_of(task: Task, inputs: Mapping[str, Content]) -> Facts:
    """Return the facts that make `task`, over these contents, the work it is."""
    return frozenset(
        [
            ("param", "kind", task.kind),
            *(("param", f"outputs.{number}", output) for number, output in enumerate(sorted(task.outputs))),
            *(("param", what, said) for name in task.params for what, said in _leaves(name, task.params[name])),
            *(("input", role, content) for role, content in inputs.items()),
            *(("toolchain", name, version) for name, version in task.toolchain.items()),
            *(("input", what, "none") for what in ("inputs",) if not inputs),
        ]
    )


def _leaves(place: str, value: object) -> Iterator[tuple[str, str]]:
    members = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    for name, member in members:
        yield from _leaves(f"{place}.{name}", member)
    if not members:
        yield place, repr(value)


# What becomes of a task


class Verdict(Enum):
    """What a build must make of a task, when nothing stops it before."""

    HIT = auto()
    RUN = auto()
    FAIL = auto()
    SKIP = auto()
    UNKNOWN = auto()


@dataclass(frozen=True)
class Fate:
    """What a build must make of one task, and why.

    `reasons` are all there can be; `sure` those that hold in whatever order tasks run. They differ only where another
    task of the same build leaves the very content that this one's result lacks. Then it may even be `spared`.
    """

    task: Task
    verdict: Verdict
    facts: Facts = frozenset()
    outputs: Mapping[str, Content] | None = None
    reasons: Told = frozenset()
    sure: Told = frozenset()
    spared: bool = False
    forced: bool = False


@dataclass(frozen=True)
class Request:
    """One build as it is asked for: the graph, what its source files hold, and the wishes.

    `observe` returns what a nondeterministic task that had to run left, or None where the build stopped before.
    """

    graph: Graph
    files: Mapping[SourceFile, Content]
    scope: str
    only: Collection[str]
    rerun: Collection[str]
    observe: Callable[[str], Content | None]


@dataclass
class History:
    """What a store must know: work done, the newest facts under each name, and the contents that are there."""

    done: dict[Facts, Mapping[str, Content]] = field(default_factory=dict)
    last: dict[tuple[str, str], Facts] = field(default_factory=dict)
    whole: set[Content] = field(default_factory=set)
    """Contents that lie in the store, as they should be."""
    corrupt: set[Content] = field(default_factory=set)
    """Contents that were damaged, and have not been made again."""
    references: dict[Content, set[SourceFile]] = field(default_factory=dict)
    """Contents that were left where they lay, and the source files that held them."""

    def predict(self, request: Request) -> dict[str, Fate]:
        """Return what `request` must come to, task by task."""
        fates: dict[str, Fate] = {}
        tasks = request.graph.tasks()
        needed = _needed(tasks, request.only, request.graph.growers())
        for task in tasks:
            if task.name in needed:
                fates[task.name] = self._fate(task, fates, request)
        known = {name: fate.outputs for name, fate in fates.items() if fate.outputs is not None}
        grown = request.graph.grown(known)
        needed = _needed([*tasks, *grown], request.only, ())
        for task in grown:
            if task.name in needed:
                fates[task.name] = self._fate(task, fates, request)
        return self._with_order(fates)

    def learn(self, fate: Fate, scope: str, *, ran: bool) -> None:
        """Note that a task came to the result of its fate, by running or by being found done."""
        task = fate.task
        self.last[scope, task.name] = fate.facts
        if not ran or fate.outputs is None:
            return
        self.done[fate.facts] = fate.outputs
        if task.kind == "pass_through":
            source = task.inputs["from"]
            if isinstance(source, SourceFile):
                self.references.setdefault(fate.outputs["out"], set()).add(source)
            return
        self.whole.update(fate.outputs.values())
        self.corrupt.difference_update(fate.outputs.values())

    def damage(self, content: Content) -> None:
        """Note that what lay in the store as `content` is something else now."""
        self.whole.discard(content)
        self.corrupt.add(content)

    def has(self, content: Content, files: Mapping[SourceFile, Content]) -> bool:
        """Return whether `content` is there, in the store or where it was left."""
        return content in self.whole or any(files[file] == content for file in self.references.get(content, ()))

    def _fate(self, task: Task, fates: Mapping[str, Fate], request: Request) -> Fate:
        producers = [fates[name] for name in task.producers]
        if any(fate.verdict in (Verdict.FAIL, Verdict.SKIP) for fate in producers):
            return Fate(task, Verdict.SKIP)
        if any(fate.outputs is None for fate in producers):
            return Fate(task, Verdict.UNKNOWN)
        inputs = {role: _content(source, fates, request.files) for role, source in task.inputs.items()}
        facts = facts_of(task, inputs)
        reasons = self._reasons(task, facts, request)
        if not reasons:
            return Fate(task, Verdict.HIT, facts, self.done[facts])
        fate = Fate(task, Verdict.RUN, facts, None, reasons, reasons, forced=task.name in request.rerun)
        if task.kind == "nondeterministic":
            content = request.observe(task.name)
            return fate if content is None else replace(fate, outputs={"out": content})
        outputs = evaluate(task, inputs, request.graph.flavour)
        return replace(fate, outputs=outputs, verdict=Verdict.FAIL if outputs is None else Verdict.RUN)

    def _reasons(self, task: Task, facts: Facts, request: Request) -> Told:
        if task.name in request.rerun:
            return frozenset({("forced", task.name)})
        if facts in self.done:
            lost = {name: said for name, said in self.done[facts].items() if not self.has(said, request.files)}
            return frozenset(("corrupt" if said in self.corrupt else "evicted", name) for name, said in lost.items())
        last = self.last.get((request.scope, task.name))
        if last is None:
            return frozenset({("new", task.name)})
        return frozenset((reason, what) for reason, what, _ in last ^ facts) or frozenset({("evicted", "result")})

    def _with_order(self, fates: Mapping[str, Fate]) -> dict[str, Fate]:
        """Mark what depends on the order in which tasks run: content that two different tasks would make again."""
        makers = Counter(
            (content, facts)
            for facts, outputs in {fate.facts: fate.outputs for fate in fates.values() if fate.reasons}.items()
            for content in set((outputs or {}).values())
        )
        known = {}
        for name, fate in fates.items():
            others = {content for content, facts in makers if facts != fate.facts}
            outputs = fate.outputs or {}
            open_to_chance = {
                (reason, what) for reason, what in fate.reasons if what in outputs and outputs[what] in others
            }
            told = fate.reasons if fate.forced else fate.reasons - open_to_chance
            known[name] = replace(fate, sure=told, spared=bool(fate.reasons) and not told)
        return known


def _content(source: Source, fates: Mapping[str, Fate], files: Mapping[SourceFile, Content]) -> Content:
    if isinstance(source, SourceFile):
        return files[source]
    outputs = fates[source.task].outputs
    assert outputs is not None
    return outputs[source.output]


def _needed(tasks: Sequence[Task], only: Collection[str], growers: Collection[str]) -> set[str]:
    """Return the names of the tasks that `only` asks for, and all they consume from; all of them if it is empty.

    While it names what no task is known for, the tasks that could make it known are asked for as well.
    """
    by_name = {task.name: task for task in tasks}
    if not only:
        return set(by_name)
    unknown = [name for name in only if name not in by_name]
    waiting = [name for name in (*only, *(growers if unknown else ())) if name in by_name]
    needed: set[str] = set()
    while waiting:
        name = waiting.pop()
        needed.add(name)
        waiting += by_name[name].producers - needed
    return needed


# What a report must say

_RAN = (State.BUILT, State.FAILED)
_STATES = {
    Verdict.HIT: {State.CACHED},
    Verdict.RUN: {State.BUILT},
    Verdict.FAIL: {State.FAILED},
    Verdict.SKIP: {State.SKIPPED},
    Verdict.UNKNOWN: set[State](),
}
_UNSTARTED = {
    Verdict.HIT: {State.WAITING},
    Verdict.RUN: {State.WAITING, State.WOULD_RUN},
    Verdict.FAIL: {State.WAITING, State.WOULD_RUN},
    Verdict.SKIP: {State.WAITING},
    Verdict.UNKNOWN: {State.WAITING, State.SKIPPED},
}


def check_report(report: Report, fates: Mapping[str, Fate], ran: Counter[str], *, stopped: bool) -> None:
    """Assert that a build made of every task what it had to, for the reasons it had, and ran nothing else.

    One that `stopped` at a failure may have left any task where it was.
    """
    assert ran == Counter(task.name for task in report.tasks if task.state in _RAN)
    told = {task.name for task in report.tasks}
    assert told <= fates.keys() if stopped else told == fates.keys()
    twins = Counter(fate.facts for fate in fates.values() if fate.verdict is Verdict.RUN)
    for task in report.tasks:
        fate = fates[task.name]
        found_done = {State.CACHED} if not fate.forced and (fate.spared or twins[fate.facts] > 1) else set()
        assert task.state in _STATES[fate.verdict] | found_done | (_UNSTARTED[fate.verdict] if stopped else set())
        _check_reasons(task, fate, at_once=False)
    if not stopped:
        _check_twins(report, fates)


def check_survey(report: Report, fates: Mapping[str, Fate]) -> None:
    """Assert that a survey said of each task whose inputs are known what a build makes of it, and no more."""
    known = {task.name: task.state for task in report.tasks}
    for task in report.tasks:
        if any(known[name] is not State.CACHED for name in fates[task.name].task.producers):
            assert task.state is State.WAITING
        else:
            hit = fates[task.name].verdict is Verdict.HIT
            assert task.state is (State.CACHED if hit else State.WOULD_RUN)
        _check_reasons(task, fates[task.name], at_once=True)


def _check_reasons(task: TaskReport, fate: Fate, *, at_once: bool) -> None:
    told = {(str(part.reason), part.what) for part in task.explanations}
    if task.state not in (*_RAN, State.WOULD_RUN):
        assert not told
    else:
        assert told
        assert (fate.reasons if at_once else fate.sure) <= told <= fate.reasons
        assert len(told) == len(task.explanations)


def _check_twins(report: Report, fates: Mapping[str, Fate]) -> None:
    """Assert that of the tasks that are the same work one ran, beside those that were forced."""
    groups: dict[Facts, list[TaskReport]] = {}
    for task in report.tasks:
        if fates[task.name].verdict is Verdict.RUN:
            groups.setdefault(fates[task.name].facts, []).append(task)
    for group in groups.values():
        free = [task for task in group if not fates[task.name].forced]
        built = [task for task in free if task.state is State.BUILT]
        chance = len(free) < len(group) or all(fates[task.name].spared for task in free)
        assert len(built) <= 1
        assert built or chance
