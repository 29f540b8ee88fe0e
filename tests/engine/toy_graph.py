"""Random works as graphs of toy tasks, and a pure evaluator that knows what each toy leaves."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from conftest import Source, toy
from strategies import JSON, Work

from maxbuild.engine import Digest, OutputOf, SourceFile, Task, hash_bytes

Content: TypeAlias = str


@dataclass
class Graph:
    """Works by number, as tasks over source files; every `multi_output` grows a task for each of its parts."""

    works: dict[int, Work]
    sources: Sequence[SourceFile]
    toolchain: Mapping[str, str]
    flavour: str

    def tasks(self) -> list[Task]:
        """Return the tasks known from the start, producers first."""
        return [self._task(number) for number in sorted(self.works)]

    def grown(self, outputs: Mapping[str, Collection[str]]) -> list[Task]:
        """Return the tasks that `outputs`, by task, make known: one for each part, and one for all of them."""
        tasks = []
        for name in self.growers():
            if name in outputs:
                parts = sorted(output for output in outputs[name] if output.startswith("parts/"))
                uses = [toy(f"{name} {part}", "concat", {"part": OutputOf(name, part)}, text="u") for part in parts]
                everything = {"list": OutputOf(name, "list"), **{use.name: OutputOf(use.name, "out") for use in uses}}
                tasks += [*uses, toy(f"{name} all", "concat", everything, text="all")]
        return tasks

    def growers(self) -> list[str]:
        """Return the names of the tasks whose results make further tasks known."""
        return [f"t{number}" for number in sorted(self.works) if self.works[number].kind == "multi_output"]

    def _task(self, number: int) -> Task:
        work = self.works[number]
        toolchain = {"toys": self.toolchain.get(work.kind, "1")}
        if work.kind == "env_reader":
            toolchain["flavour"] = self.flavour
        outputs = ("list", "parts/*") if work.kind == "multi_output" else ("out",)
        inputs = self._inputs(number, work)
        params: dict[str, JSON] = {"text": work.text, "options": work.options}
        return toy(f"t{number}", work.kind, inputs, outputs=outputs, toolchain=toolchain, **params)

    def _inputs(self, number: int, work: Work) -> dict[str, Source]:
        producers = [other for other in sorted(work.producers) if other < number and other in self.works]
        found: dict[str, Source] = {f"s{source}": self.sources[source] for source in work.sources}
        for other in producers:
            found[f"t{other}"] = OutputOf(f"t{other}", "list" if f"t{other}" in self.growers() else "out")
        match work.kind:
            case "pass_through":
                return {"from": list(found.values())[-1]}
            case "multi_output":
                return {"words": found[f"s{work.sources[0]}"]}
        return found


def evaluate(task: Task, inputs: Mapping[str, Content], flavour: str) -> dict[str, Content] | None:
    """Return what `task` leaves by its outputs, by the rules of the toys and nothing else; None where it fails."""
    parts = [inputs[role] for role in sorted(inputs)]
    match task.kind:
        case "concat":
            return {"out": f"{task.params['text']}({','.join(parts)})"}
        case "env_reader":
            return {"out": f"{flavour}({','.join(parts)})"}
        case "parity":
            return {"out": "odd" if len("".join(parts)) % 2 else "even"}
        case "fail_if":
            return None if any("bad" in part for part in parts) else {"out": "good"}
        case "multi_output":
            words = inputs["words"].split()
            return {"list": " ".join(words), **{f"parts/{word}": word for word in words}}
        case "pass_through":
            return {"out": inputs["from"]}
        case "slow":
            return {"out": "slow"}
    raise AssertionError(f"no rule for {task.kind}")


def digest_of(content: Content) -> Digest:
    """Return the digest of what a toy left."""
    return hash_bytes(content.encode())
