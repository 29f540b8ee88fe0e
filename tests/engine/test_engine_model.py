"""The search for a history of edits, damage and builds after which the engine does not do what its model says.

Guarantees G1, G2, G3, G6, G9. Every run of the tests, CI's among them, takes the same 50 histories of 20 steps: about
500 builds, each followed by a second one and by one in a fresh store. `just fuzz HOURS` draws new histories, of 80
steps, until the time is over.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import ClassVar, TypeVar
from unittest import mock

from conftest import ToyPlan
from engine_model import Facts, Fate, History, Request, check_report, check_survey
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from strategies import (
    SOURCES,
    WORKING_KINDS,
    Wish,
    Work,
    contents,
    counts,
    graphs,
    search_settings,
    source_numbers,
    task_numbers,
    wishes,
    works,
)
from surgery import drop_result, harm_blob, left_in
from toy_graph import Content, Graph, digest_of
from toys import FLAVOUR, KINDS, LEDGER

from maxbuild.engine import (
    Deferred,
    Kind,
    Report,
    Result,
    SourceFile,
    State,
    Store,
    Task,
    TaskKey,
    execute,
    survey,
)
from maxbuild.engine.collect import collect

MEMORY = Path("/dev/shm")
"""A file system in memory, where there is one: a history takes hundreds of small databases."""

Choice = TypeVar("Choice")
TIMES = st.sampled_from([0, 1_000_000_000, 1_700_000_000, 8_000_000_000])
"""Modification times in whole seconds: of 1970, 2001, 2023 and 2223."""


def change(**strategies: st.SearchStrategy[object]) -> Callable[[Callable[..., None]], object]:
    """Declare a change, after which a build may follow."""

    def declare(method: Callable[..., None]) -> object:
        @rule(**strategies, wish=st.none() | wishes)
        @wraps(method)
        def step(machine: EngineMachine, wish: Wish | None, **drawn: object) -> None:
            method(machine, **drawn)
            if wish is not None:
                machine.build(wish)

        return step

    return declare


class EngineMachine(RuleBasedStateMachine):
    """One store, some source files and a graph of toys, changed at random; the model looks on."""

    kinds: ClassVar[Mapping[str, Kind]] = KINDS

    def __init__(self) -> None:
        """Start with an empty store."""
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="maxbuild-", dir=MEMORY if MEMORY.is_dir() else None))
        self.ledger = self.folder / "ledger"
        self.environment = mock.patch.dict(os.environ, {LEDGER: str(self.ledger), FLAVOUR: "plain"})
        self.environment.start()
        self.store = Store(self.folder / "store")
        self.history = History()
        self.keys: dict[Facts, TaskKey] = {}
        self.seen: set[Content] = set()
        self.builds = 0
        self.built: list[Facts] = []
        self.harmed: Content = ""

    def teardown(self) -> None:
        """Leave nothing behind."""
        self.store.close()
        self.environment.stop()
        shutil.rmtree(self.folder)

    # What changes

    @initialize(graph=graphs, files=st.lists(contents, min_size=SOURCES, max_size=SOURCES))
    def begin(self, graph: dict[int, Work], files: list[Content]) -> None:
        """Write source files and a graph."""
        sources = [SourceFile(self.folder / f"source {number}") for number in range(SOURCES)]
        self.graph = Graph(dict(graph), sources, {}, "plain")
        self.files = dict(zip(sources, files, strict=True))
        self.before = dict(self.files)
        for source, content in self.files.items():
            source.path.write_text(content)

    @change(number=source_numbers, content=contents, way=st.sampled_from(["write", "replace", "restore"]))
    def edit(self, number: int, content: Content, way: str) -> None:
        """Write into a source file, put another in its place, or write and set its modification time back."""
        self._edit(self.graph.sources[number], content, way)

    @change(number=source_numbers)
    def revert(self, number: int) -> None:
        """Put back what a source file held before."""
        source = self.graph.sources[number]
        self._edit(source, self.before[source], "write")

    @change(number=source_numbers, other=source_numbers)
    def swap(self, number: int, other: int) -> None:
        """Let two source files change places."""
        one, two = self.graph.sources[number], self.graph.sources[other]
        aside = self.folder / "aside"
        for old, new in ((one.path, aside), (two.path, one.path), (aside, two.path)) if one != two else ():
            old.rename(new)
        self.files[one], self.files[two] = self.files[two], self.files[one]

    @change(number=source_numbers, seconds=TIMES)
    def touch(self, number: int, seconds: int) -> None:
        """Set a modification time, in the past, in the future, or that of another file."""
        source = self.graph.sources[number]
        os.utime(source.path, None if self._is_referenced(source) else (seconds, seconds))

    @change(flavour=st.sampled_from(["plain", "spiced"]))
    def change_environment(self, flavour: str) -> None:
        """Set the variable that one toy reads; the plan says so in its key."""
        os.environ[FLAVOUR] = flavour
        self.graph.flavour = flavour

    @change(kind=st.sampled_from(WORKING_KINDS), version=st.sampled_from(["1", "2"]))
    def change_toolchain(self, kind: str, version: str) -> None:
        """Carry one kind of task out by another version."""
        self.graph.toolchain = {**self.graph.toolchain, kind: version}

    @change(number=task_numbers, work=works)
    def put_task(self, number: int, work: Work) -> None:
        """Add a task, or make another of it: kind, parameters, inputs."""
        self.graph.works[number] = work

    @change(count=counts, work=works)
    def rewire_task(self, count: int, work: Work) -> None:
        """Let a task consume from others."""
        self._change_task(count, sources=work.sources, producers=work.producers)

    @change(count=counts, work=works)
    def set_parameters(self, count: int, work: Work) -> None:
        """Change the parameters of a task."""
        self._change_task(count, text=work.text, options=work.options)

    @change(count=counts, other=task_numbers)
    def copy_task(self, count: int, other: int) -> None:
        """Ask for the same work under two names."""
        number = _pick(sorted(self.graph.works), count)
        if number is not None and other > number:
            self.graph.works[other] = self.graph.works[number]

    @change(count=counts)
    def remove_task(self, count: int) -> None:
        """Take a task out of the graph, and out of the inputs of others."""
        number = _pick(sorted(self.graph.works), count)
        if number is not None:
            del self.graph.works[number]

    # What is done to the store

    @change(
        picks=st.lists(counts, min_size=1, max_size=3),
        how=st.sampled_from(["delete", "truncate", "append"]),
        again=st.booleans(),
    )
    def harm_blobs(self, picks: list[int], how: str, again: bool) -> None:
        """Delete or damage some blobs, among them perhaps one that was harmed before and has been made again."""
        named = {content for facts in self._recent() for content in self.history.done[facts].values()}
        if again and self.harmed in named & self.history.whole:
            self._harm(self.harmed, how)
        for pick in picks:
            self.harmed = _pick(sorted(named & self.history.whole), pick) or self.harmed
            if self.harmed in self.history.whole:
                self._harm(self.harmed, how)

    @change(count=counts)
    def drop_result(self, count: int) -> None:
        """Forget a result, and leave its blobs."""
        facts = _pick(self._recent(), count)
        if facts is not None:
            drop_result(self.store, self.keys[facts])
            del self.history.done[facts]

    @change(count=counts)
    def collect_garbage(self, count: int) -> None:
        """Let the collector remove what it likes; what it leaves stays whole, and the model takes note."""
        self.reopen(wish=None)  # else what this session claimed would stay
        whole = {facts for facts in self.history.done if self._is_whole(facts)}
        collect(self.store, self.kinds, max_size=3 * count)
        self._take_note()
        assert all(self._is_whole(facts) for facts in whole & self.history.done.keys())

    @change()
    def reopen(self) -> None:
        """Close the store and open it anew, as another process would."""
        self.store.close()
        self.store = Store(self.store.root)

    # Builds

    @rule(wish=wishes)
    def build(self, wish: Wish) -> None:
        """Build, and look at everything that came of it."""
        self.builds += 1
        rerun = self._rerun(wish)
        plan, only = self._plan(), self._only(wish)
        target = {"scope": wish.scope, "only": only}
        before = survey(plan, self.store, **target, rerun=rerun) if wish.surveyed else None
        options = {**target, "jobs": wish.jobs, "keep_going": wish.keep_going}
        report = execute(plan, self.store, self.kinds, **options, rerun=rerun)
        request = Request(self.graph, self.files, wish.scope, only, rerun, lambda name: self._left(report, name))
        fates = self.history.predict(request)
        stopped = bool(report.in_state(State.FAILED)) and not wish.keep_going
        if before is not None:
            check_survey(before, fates)
        check_report(report, fates, self._ran(), stopped=stopped)
        self._check_contents(report, fates)
        self._learn(report, fates, wish.scope)
        if not stopped:
            again = execute(plan, self.store, self.kinds, **options)
            assert self._ran() == Counter(task.name for task in report.in_state(State.FAILED))
            assert again.results == report.results
        self._check_fresh(report, fates, only)

    def _check_contents(self, report: Report, fates: Mapping[str, Fate]) -> None:
        """Compare all that is left with what the model says, to the byte."""
        for name, result in report.results.items():
            outputs = fates[name].outputs
            assert outputs is not None
            assert result.outputs == {output: digest_of(content) for output, content in outputs.items()}
            for output, digest in result.outputs.items():
                path = self.store.blob_path(digest)
                assert path is not None
                assert path.read_text() == outputs[output]

    def _learn(self, report: Report, fates: Mapping[str, Fate], scope: str) -> None:
        fresh = set()
        self.built = list(dict.fromkeys(fate.facts for fate in fates.values()))
        for task in report.tasks:
            if task.state not in (State.BUILT, State.CACHED):
                continue
            fate = fates[task.name]
            assert task.key is not None
            assert self.keys.setdefault(fate.facts, task.key) == task.key
            self.history.learn(fate, scope, ran=task.state is State.BUILT)
            if task.kind == "nondeterministic" and task.state is State.BUILT:
                assert fate.outputs is not None
                fresh.add(fate.outputs["out"])
        assert not fresh & self.seen
        self.seen |= fresh

    def _check_fresh(self, report: Report, fates: Mapping[str, Fate], only: frozenset[str]) -> None:
        """Build the same in a store that knows nothing, and compare digests."""
        root = self.folder / f"fresh {self.builds}"
        with Store(root) as store:
            clean = execute(self._plan(), store, KINDS, scope="fresh", jobs=4, keep_going=True, only=only)
        shutil.rmtree(root)
        self._ran()
        chance: set[str] = set()
        for name, fate in fates.items():  # producers first
            if fate.task.kind == "nondeterministic" or fate.task.producers & chance:
                chance.add(name)
        sure = {name: result for name, result in report.results.items() if name not in chance}
        assert sure == {name: clean.results[name] for name in sure}

    # Helpers

    def _change_task(self, count: int, **fields: object) -> None:
        number = _pick(sorted(self.graph.works), count)
        if number is not None:
            self.graph.works[number] = replace(self.graph.works[number], **fields)

    def _take_note(self) -> None:
        """Let the model forget what a collector removed."""
        left, history = left_in(self.store), self.history
        history.done = {facts: outputs for facts, outputs in history.done.items() if self.keys[facts] in left.results}
        history.whole = {content for content in history.whole if digest_of(content) in left.blobs}
        history.corrupt = {content for content in history.corrupt if digest_of(content) in left.blobs | left.aside}
        known = history.references.items()
        history.references = {content: where for content, where in known if digest_of(content) in left.references}

    def _recent(self) -> list[Facts]:
        """Return the work that is done of what was built last: what happens to it is soon felt."""
        return [facts for facts in self.built if facts in self.history.done]

    def _edit(self, source: SourceFile, content: Content, way: str) -> None:
        before = source.path.stat()
        self.before[source], self.files[source] = self.files[source], content
        if way == "replace":
            other = self.folder / "other"
            other.write_text(content)
            other.replace(source.path)
        else:
            source.path.write_text(content)
        if way == "restore" and not self._is_referenced(source):
            os.utime(source.path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def _harm(self, content: Content, how: str) -> None:
        harm_blob(self.store, digest_of(content), how)
        if how == "delete":
            self.history.whole.discard(content)
        else:
            self.history.damage(content)

    def _plan(self) -> ToyPlan:
        graph = self.graph

        def grow(results: Mapping[str, Result]) -> list[Task]:
            return graph.grown({name: result.outputs for name, result in results.items()})

        def defer(results: Mapping[str, Result]) -> list[Deferred]:
            return [Deferred(name, "a use of each part") for name in graph.growers() if name not in results]

        return ToyPlan(graph.tasks(), grow, defer)

    def _only(self, wish: Wish) -> frozenset[str]:
        """Return what to build alone; a task yet to grow only where no other grower would be asked as well."""
        growers = self.graph.growers()
        grown = {f"{name} all" for name in growers} if wish.grown and len(growers) == 1 else set()
        return grown | frozenset(f"t{number}" for number in wish.only if number in self.graph.works)

    def _rerun(self, wish: Wish) -> frozenset[str]:
        return frozenset(f"t{number}" for number in wish.rerun if number in self.graph.works)

    def _left(self, report: Report, name: str) -> Content | None:
        result = report.results.get(name)
        path = self.store.blob_path(result.outputs["out"]) if result is not None else None
        return path.read_text() if path is not None else None

    def _ran(self) -> Counter[str]:
        """Return what ran since the last question, and start the ledger afresh."""
        lines = self.ledger.read_text().splitlines() if self.ledger.exists() else []
        self.ledger.unlink(missing_ok=True)
        return Counter(lines)

    def _is_referenced(self, source: SourceFile) -> bool:
        """Return whether the store serves this file as content: then size and modification time are its word."""
        return any(source in holders for holders in self.history.references.values())

    def _is_whole(self, facts: Facts) -> bool:
        return all(self.history.has(content, self.files) for content in self.history.done[facts].values())


def _pick(choices: Sequence[Choice], count: int) -> Choice | None:
    return choices[count % len(choices)] if choices else None


class IsolatedMachine(EngineMachine):
    """The same, with a process for every task; the builds in fresh stores still run in threads."""

    kinds: ClassVar[Mapping[str, Kind]] = {name: kind._replace(isolated=True) for name, kind in KINDS.items()}


TestEngineModel = EngineMachine.TestCase
TestEngineModel.settings = search_settings()

TestIsolatedEngineModel = IsolatedMachine.TestCase
TestIsolatedEngineModel.settings = settings(
    search_settings(), max_examples=2, stateful_step_count=6, phases=[Phase.generate]
)
