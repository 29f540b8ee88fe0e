"""One build of a generated graph by our engine, as a process of its own: `python -m bench.engine_child GRAPH STORE`.

Source files are those beside the graph. Prints a line `NAME PATH` for every task that ran: where its output lies.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.engine_dag import Dag, Node
from maxbuild.engine import Deferred, Job, Kind, OutputOf, Result, SourceFile, State, Store, Task, execute

UNSYNCED = "unsynced"
"""A third argument: leave fsync out. For getting ready only; what is measured brings everything to the disk."""

_KINDS = {"join": Kind("join", "bench.engine_child:join", isolated=False)}


def join(job: Job) -> Mapping[str, Path]:
    """Join the inputs, in the order of their roles."""
    path = job.scratch / "out"
    path.write_text("".join(job.inputs[role].read_text() for role in sorted(job.inputs)))
    return {"out": path}


@dataclass(frozen=True, slots=True)
class _Whole:
    """A plan that is known from the start."""

    tasks: Sequence[Task]

    def grow(self, results: Mapping[str, Result]) -> Sequence[Task]:  # noqa: ARG002
        return ()

    def deferred(self, results: Mapping[str, Result]) -> Sequence[Deferred]:  # noqa: ARG002
        return ()


def _task(node: Node, folder: Path) -> Task:
    inputs: dict[str, SourceFile | OutputOf] = {
        f"input{number:03}": OutputOf(name, "out") for number, name in enumerate(node.inputs)
    }
    if node.source is not None:
        inputs["source"] = SourceFile(folder / node.source)
    return Task(node.name, "join", {}, inputs, {"bench": "1"}, ("out",))


def _unsynced(fd: object) -> None:
    """Leave the disk to its own pace."""


def main() -> int:
    """Build the graph that the first argument names with the store that the second names."""
    graph, root = Path(sys.argv[1]), Path(sys.argv[2])
    gc.set_threshold(100_000, *gc.get_threshold()[1:])  # as the command does
    if UNSYNCED in sys.argv[3:]:
        os.fsync = _unsynced
    plan = _Whole([_task(node, graph.parent) for node in Dag.read(graph).nodes])
    with Store(root) as store:
        report = execute(plan, store, _KINDS, scope="bench", jobs=os.cpu_count() or 1)
        for task in report.in_state(State.BUILT):
            print(task.name, store.blob_path(report.results[task.name].outputs["out"]))
    return 0 if report.complete else 1


if __name__ == "__main__":
    sys.exit(main())
