"""Dask clusters of this host for tests: the real commands, each in a process of its own, and orders to hand them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from remote.servers import free_port
from toys import KINDS, LEDGER, toolchain_of

from maxbuild.engine import JSON, Document, Job, hash_bytes
from maxbuild.engine.executor import Order

TOKEN = "token-of-the-workers"
"""What workers show the remote cache: in their environment alone."""


@dataclass
class Cluster:
    """A running scheduler, and the workers started so far."""

    folder: Path
    port: int
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def spec(self) -> str:
        """Return what `--executor` takes."""
        return f"dask://127.0.0.1:{self.port}"

    def start(self, name: str, *arguments: str) -> None:
        """Start a dask command, deaf to what the tests' environment says of dask."""
        settings = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1", "MAXBUILD_REMOTE_TOKEN": TOKEN}
        paths = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
        environment = {**os.environ, **settings, "PYTHONPATH": paths, LEDGER: str(self.folder / "ledger")}
        with (self.folder / f"{name}.log").open("ab") as log:
            command = [sys.executable, "-m", "dask", name, *arguments]
            self.processes.append(
                subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=self.folder, process_group=0)
            )

    def start_workers(self, count: int) -> None:
        """Start `count` workers, one thread each, with nannies, as people do who type `dask worker`."""
        options = ["--nthreads", "1", "--no-dashboard", "--memory-limit", "0", "--death-timeout", "60"]
        self.start(
            "worker",
            f"tcp://127.0.0.1:{self.port}",
            "--nworkers",
            str(count),
            "--local-directory",
            str(self.work),
            *options,
        )

    @property
    def work(self) -> Path:
        """Return where workers keep what they work on."""
        return self.folder / "work"

    def left_behind(self) -> list[Path]:
        """Return what errands have left in the folders of the workers."""
        return list(self.work.rglob("maxbuild-*"))


@contextmanager
def cluster(folder: Path, workers: int) -> Iterator[Cluster]:
    """Run a scheduler with so many workers while the block lasts."""
    running = Cluster(folder, free_port())
    running.work.mkdir()
    try:
        options = ["--no-dashboard", "--no-show", "--idle-timeout", "1h"]  # it ends even if the tests are killed
        running.start("scheduler", "--host", "127.0.0.1", "--port", str(running.port), *options)
        if workers:
            running.start_workers(workers)
        yield running
    finally:
        for process in running.processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def order(folder: Path, kind: str, inputs: Mapping[str, str] | None = None, **params: JSON) -> Order:
    """Return the order to carry out a toy on `inputs`, as the engine hands it over; all it needs is in `folder`."""
    scratch = folder / "space" / "work"
    scratch.mkdir(parents=True)
    paths, digests = {}, {}
    for role, content in (inputs or {}).items():
        paths[role] = folder / f"input-{role.replace('/', '-')}"
        paths[role].write_text(content)
        digests[role] = hash_bytes(content.encode())
    document = Document(kind, params, digests, toolchain_of(kind), ("out",))
    job = Job(params, paths, scratch, lambda *_: None, {}, digests)
    return Order(f"toy {folder.name}", KINDS[kind], document, job, folder / "log")


def wait_until(true: Callable[[], bool], what: str) -> None:
    """Wait for what must come; a minute is for machines that are very busy."""
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, f"{what}: waited in vain"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Return whether a process has that number and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
