"""Random graphs and edits: an incremental build equals a pure evaluation, and a second build runs nothing (G1, G2)."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from conftest import Source, ToyPlan, toy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toys import KINDS, LEDGER

from maxbuild.engine import OutputOf, SourceFile, Store, Task, execute

SOURCES = 3
contents = st.lists(st.sampled_from(["", "a", "bb", "cc", "ddd"]), min_size=SOURCES, max_size=SOURCES)


@dataclass(frozen=True)
class Shape:
    """One task of a random graph: what it does, with what text, and from which sources and earlier tasks."""

    kind: str
    text: str
    sources: tuple[int, ...]
    earlier: tuple[int, ...]


@st.composite
def graphs(draw: st.DrawFn) -> list[Shape]:
    """Draw a graph of up to seven tasks; each consumes only from tasks before it."""
    return [
        Shape(
            draw(st.sampled_from(["concat", "parity", "pass_through"])),
            draw(st.sampled_from(["", "x", "y"])),
            (draw(st.integers(0, SOURCES - 1)),),
            tuple(draw(st.sets(st.integers(0, number - 1), max_size=2))) if number else (),
        )
        for number in range(draw(st.integers(1, 7)))
    ]


def evaluate(shapes: list[Shape], files: list[str]) -> list[str]:
    """Return what every task leaves, by the rules of the toys and nothing else."""
    left: list[str] = []
    for shape in shapes:
        inputs = [left[number] for number in sorted(shape.earlier)] + [files[number] for number in shape.sources]
        match shape.kind:
            case "concat":
                left.append(f"{shape.text}({','.join(inputs)})")
            case "parity":
                left.append("odd" if len("".join(inputs)) % 2 else "even")
            case _:
                left.append(inputs[-1])
    return left


def tasks_of(shapes: list[Shape], folder: Path) -> list[Task]:
    """Return the graph as tasks over the files in `folder`."""
    tasks = []
    for name, shape in enumerate(shapes):
        inputs: dict[str, Source] = {f"earlier {number}": OutputOf(str(number), "out") for number in shape.earlier}
        for number in shape.sources:
            role = "from" if shape.kind == "pass_through" else f"source {number}"
            inputs[role] = SourceFile(folder / str(number))
        tasks.append(toy(str(name), shape.kind, inputs, text=shape.text))
    return tasks


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(graphs(), contents), min_size=1, max_size=4))
def test_incremental_builds_equal_pure_evaluation(steps: list[tuple[list[Shape], list[str]]]) -> None:
    """G1, G2: through any edits of graph and sources, content is right, reasons are given, and nothing runs twice."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with mock.patch.dict("os.environ", {LEDGER: str(folder / "ledger")}), Store(folder / "store") as store:
            for shapes, files in steps:
                for number, content in enumerate(files):
                    (folder / str(number)).write_text(content)
                tasks = tasks_of(shapes, folder)
                report = execute(ToyPlan(tasks), store, KINDS, scope="x", jobs=2)
                paths = [store.blob_path(report.results[task.name].outputs["out"]) for task in tasks]
                assert [path.read_text() for path in paths if path] == evaluate(shapes, files)
                assert all(bool(task.explanations) == (task.state == "built") for task in report.tasks)
                (folder / "ledger").unlink(missing_ok=True)
                assert execute(ToyPlan(tasks), store, KINDS, scope="x", jobs=2).results == report.results
                assert not (folder / "ledger").exists()
