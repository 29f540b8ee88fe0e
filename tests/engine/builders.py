"""Builders for tests of concurrency: processes that all build toy plans in one store, told what to do by JSON on stdin.

One process pays for the imports and forks the rest. Each builder leaves `<folder>/<number>.json`: the digests and
states of its tasks, the warnings it gave and the error it ended with.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

from conftest import ToyPlan
from toys import KINDS

from maxbuild.engine import OutputOf, SourceFile, Store, Task, execute
from maxbuild.errors import MaxbuildError

HERE = Path(__file__).parent
PATIENCE = 60.0


@dataclass(frozen=True)
class Orders:
    """What one builder does: build `tasks` in `store` (`times` over), where flock fails with `flock_error` if any."""

    store: Path
    tasks: Sequence[Task]
    scope: str = "world"
    jobs: int = 2
    times: int = 1
    flock_error: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` makes the orders from again."""
        tasks = [_task_to_json(task) for task in self.tasks]
        return {**vars(self), "store": str(self.store), "tasks": tasks}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Make the orders that `to_json` told."""
        tasks = [_task_from_json(task) for task in value["tasks"]]
        return cls(**{**value, "store": Path(value["store"]), "tasks": tasks})


def _task_to_json(task: Task) -> dict[str, Any]:
    plain = {name: getattr(task, name) for name in ("name", "kind", "params", "toolchain", "outputs", "local")}
    inputs = {
        role: [str(source.path)] if isinstance(source, SourceFile) else [source.task, source.output]
        for role, source in task.inputs.items()
    }
    return {**plain, "inputs": inputs}


def _task_from_json(value: Mapping[str, Any]) -> Task:
    inputs = {
        role: SourceFile(Path(place[0])) if len(place) == 1 else OutputOf(*place)
        for role, place in value["inputs"].items()
    }
    return Task(**{**value, "inputs": inputs, "outputs": tuple(value["outputs"])})


@dataclass(frozen=True)
class Built:
    """What became of one builder: digests and states by task, its warnings, and its error, None where all went well."""

    results: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    states: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    error: str | None = None


class Builders:
    """Builders at work; leaving the `with` block kills those that still are."""

    def __init__(self, orders: Sequence[Orders], folder: Path) -> None:
        """Start one builder for each of `orders`, all at once, that leave what became of them in `folder`."""
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._process: subprocess.Popen[bytes] = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__)), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])},
            process_group=0,
        )
        stdin, stdout = self._pipes()
        stdin.write(json.dumps([order.to_json() for order in orders]).encode() + b"\n")
        stdin.flush()
        self.pids: list[int] = json.loads(stdout.readline())

    def __enter__(self) -> Self:
        """Return the builders."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kill and reap what is left."""
        if self.running:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    @property
    def running(self) -> bool:
        """Return whether some builder has not ended."""
        return self._process.poll() is None

    def wait(self) -> list[Built]:
        """Wait for all builders and return what became of each; one that was killed left nothing."""
        self._process.wait(PATIENCE)
        answers = [self._folder / f"{number}.json" for number in range(len(self.pids))]
        return [
            Built(**json.loads(answer.read_bytes())) if answer.exists() else Built(error="killed") for answer in answers
        ]

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        return self._process.stdin, self._process.stdout


def until(true: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Wait for something to become true; TimeoutError when it does not."""
    deadline = time.monotonic() + patience
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.002)


def build(orders: Orders) -> Built:
    """Carry out `orders` in this process."""
    if orders.flock_error is not None:
        fcntl.flock = _failing(orders.flock_error)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with Store(orders.store) as store:
                for _ in range(orders.times):
                    report = execute(ToyPlan(orders.tasks), store, KINDS, scope=orders.scope, jobs=orders.jobs)
        except MaxbuildError as error:
            return Built(error="\n".join(error.blocks()), warnings=_texts(caught))
        except Exception:  # noqa: BLE001 - the test that gave the orders shows it
            return Built(error=traceback.format_exc(), warnings=_texts(caught))
    failures = [str(task.error) for task in report.tasks if task.error is not None]
    return Built(
        {name: dict(result.outputs) for name, result in report.results.items()},
        {task.name: task.state.name for task in report.tasks},
        _texts(caught),
        "\n".join(failures) or None,
    )


def _failing(code: int) -> Any:
    def flock(_descriptor: int, _operation: int) -> None:
        raise OSError(code, os.strerror(code))

    return flock


def _texts(caught: Sequence[warnings.WarningMessage]) -> list[str]:
    return [str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)]


def main() -> None:
    """Fork a builder for each of the orders on stdin, say their pids, let all begin at once, and reap them."""
    os.fsync = lambda _descriptor: None  # as in the tests: it matters only to a machine that loses power
    all_orders = [Orders.from_json(value) for value in json.loads(sys.stdin.readline())]
    starter, start = os.pipe()
    pids = []
    for number, orders in enumerate(all_orders):
        pids.append(os.fork())
        if pids[-1] == 0:
            os.close(start)
            os.read(starter, 1)
            answer = Path(sys.argv[1]) / f"{number}.json"
            answer.write_text(json.dumps(vars(build(orders))))
            os._exit(0)
    print(json.dumps(pids), flush=True)
    os.close(start)
    for pid in pids:
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
