"""A process that builds toys and describes the demo's tasks, wherever and as whoever it is started, and prints keys."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from conftest import ToyPlan, toy
from toys import KINDS

import maxbuild
from maxbuild.engine import Digest, Document, OutputOf, Result, SourceFile, Store, Task, execute, hash_bytes, hash_file
from maxbuild.manifest import load_manifest
from maxbuild.plan import make_plan

TRACED = {"program": hash_bytes(b"program"), "regions/full": hash_bytes(b"full"), "regions/after": hash_bytes(b"after")}
LOADED = {"index": hash_bytes(b"index"), "weights/main.safetensors": hash_bytes(b"weights")}


def main(checkout: Path, folder: Path) -> None:
    """Build in `folder` and print what came of it, and where the engine was found."""
    folder.mkdir(parents=True)
    answer = {
        "engine": str(Path(maxbuild.__file__).parent.parent),
        "toys": toys_in(folder),
        "demo": dict(demo_keys(checkout / "manifests" / "demo.yaml")),
    }
    print(json.dumps(answer))


def toys_in(folder: Path) -> Mapping[str, tuple[str, Mapping[str, str]]]:
    """Return key and output digests of every toy."""
    source = folder / "source"
    source.write_text("red green blue")
    with Store(folder / "store") as store:
        report = execute(toy_plan(SourceFile(source)), store, KINDS, scope=str(folder), jobs=3)
    assert report.complete
    return {task.name: (str(task.key), report.results[task.name].outputs) for task in report.tasks}


def toy_plan(source: SourceFile) -> ToyPlan:
    """Return toys of many kinds, one in a process of its own, and one for each word of the source."""

    def grow(results: Mapping[str, Result]) -> Sequence[Task]:
        parts = [output for output in results["split"].outputs if output != "list"] if "split" in results else []
        return [
            toy(f"use {part}", "concat", {part: OutputOf("split", part)}, text="ß\u2028\U0001f600") for part in parts
        ]

    options = {"Ünïcödé": {"İstanbul": ["i", "I", "\u0131"], "e\u0301": None}, "z": 2**80, "A": True}
    tasks = [
        toy("split", "multi_output", {"words": source}, outputs=("list", "parts/*")),
        toy("join", "concat", {"s": source, "list": OutputOf("split", "list")}, text="x", options=options),
        toy("alone", "isolated", {"from": OutputOf("join", "out")}, text="y", toolchain={"toys": "1"}),
        toy("even", "parity", {"from": OutputOf("alone", "out")}),
        toy("same", "pass_through", {"from": source}),
    ]
    return ToyPlan(tasks, grow)


def demo_keys(manifest: Path) -> Iterable[tuple[str, str]]:
    """Yield the key of every task of a manifest, as if its traces and loads had left something."""
    plan = make_plan(load_manifest(manifest), pin=False)
    left = {"load": LOADED, "match": {"agreement": hash_bytes(b"agreement")}}
    results = {task.name: Result(left.get(task.kind, TRACED)) for task in plan.tasks}
    for task in plan.grow(results):
        if task.kind != "package":
            results[task.name] = Result({name: hash_bytes(f"{name} of {task.name}".encode()) for name in task.outputs})
    for task in (*plan.tasks, *plan.grow(results)):
        inputs = {role: content_of(source, results) for role, source in task.inputs.items()}
        yield task.name, Document.of(task, inputs).key()


def content_of(source: SourceFile | OutputOf, results: Mapping[str, Result]) -> Digest:
    """Return the digest of an input."""
    return hash_file(source.path) if isinstance(source, SourceFile) else results[source.task].outputs[source.output]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
