"""One tool's copy of one graph: brought to where everything is built, then measured, and never believed unchecked.

A build with nothing to do must run nothing; after a leaf's edit it must run exactly the tasks the edit reaches, and
they must leave what the graph says. Anything else is a BenchError: a figure of a wrong build is worth nothing.
"""

from __future__ import annotations

import time
from pathlib import Path

from bench.engine_dag import Dag, Node, source_text
from bench.engine_tools import GRAPH, Run, Tool
from bench.harness import BenchError, talk


def middle_leaf(dag: Dag) -> Node:
    """Return the leaf that is edited."""
    leaves = dag.leaves
    return leaves[len(leaves) // 2]


class Site:
    """A folder with a graph, its source files and what one tool made of them."""

    def __init__(self, tool: Tool, dag: Dag, folder: Path, limit: float) -> None:
        """Allow each build `limit` seconds; nothing is written yet."""
        self.tool, self.dag, self.folder = tool, dag, folder
        self._limit = limit
        self._leaf = middle_leaf(dag)
        self._reached = dag.reached_from(self._leaf.name)
        self._mark = folder / "prepared"

    def prepare(self, limit: float) -> None:
        """Build everything within `limit` seconds, or what is left to build after an earlier run of the bench."""
        talk(f"  {self.tool.name}: building everything")
        if not self._mark.exists():
            self._begin(limit)
        self.tool.build(self.folder, limit)  # also where outputs were noted as built: they are looked at once
        self._mark.touch()

    def null(self) -> float:
        """Return the seconds of a build with nothing to do."""
        return self._build(frozenset()).seconds

    def edited(self) -> float:
        """Return the seconds of a build after an edit of one leaf's source, to what it never held before."""
        assert self._leaf.source is not None
        (self.folder / self._leaf.source).write_text(source_text(self._leaf.source, time.time_ns()))
        run = self._build(self._reached)
        self._check_contents(run)
        return run.seconds

    def _begin(self, limit: float) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.dag.write(self.folder / GRAPH)
        for leaf in self.dag.leaves:
            assert leaf.source is not None
            (self.folder / leaf.source).write_text(source_text(leaf.source))
        self.tool.describe(self.dag, self.folder)
        self.tool.prepare(self.dag, self.folder, limit)

    def _build(self, foreseen: frozenset[str]) -> Run:
        """Build, and raise unless the tasks that ran are those `foreseen`; a stopped build prepared nothing."""
        self._mark.unlink()
        run = self.tool.build(self.folder, self._limit)
        if run.left.keys() != foreseen:
            wrong = sorted(run.left.keys() ^ foreseen)[:5]
            raise BenchError(f"{self.tool.name} ran {len(run.left)} tasks, not the {len(foreseen)} foreseen: {wrong}")
        self._mark.touch()
        return run

    def _check_contents(self, run: Run) -> None:
        contents = self.dag.contents(lambda source: (self.folder / source).read_text())
        wrong = [name for name, path in run.left.items() if path.read_text() != contents[name]]
        if wrong:
            raise BenchError(f"{self.tool.name} left something else than the graph says: {sorted(wrong)[:5]}")
