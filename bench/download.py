"""`just bench download`: bytes per second from a hub on this host, against upstream's `snapshot_download` and curl.

All fetch the same files from the same server. maxbuild hashes them as they pass, brings them to the disk and puts them
into its store; the others do none of that. The hub and all sides share the processor.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

from bench.harness import (
    BenchError,
    Cell,
    Figures,
    Goal,
    Samples,
    Table,
    child_environment,
    interleave,
    new_parser,
    run_bench,
    run_process,
    seconds_of_process,
    talk,
)
from bench.hub_server import COMMIT, REPOSITORY

_MIB = 2**20
_LEAST = 0.95
_SIDE = (sys.executable, "-m", "bench.download_side")
_MAXBUILD, _SNAPSHOT, _CURL = "maxbuild", "snapshot_download", "curl"
_CURL_SAFE = "curl, sync, sha256"
_CLIENT = "upstream's HTTP client, bytes dropped"
_AT_ONCE = "8"
_PIECE = 1 << 24


@dataclass(slots=True)
class _Bench:
    """The sides, on one set of files. What one leaves is gone before the next begins."""

    folder: Path
    address: str
    names: list[str]
    processor: dict[str, list[float]] = field(default_factory=dict)
    """By side, the processor seconds of each run, of all its processes, imports included."""

    def sides(self) -> dict[str, Callable[[], float]]:
        """Return the measurable sides by name."""
        sides: dict[str, Callable[[], float]] = {
            _MAXBUILD: partial(self._side, "maxbuild", self.folder / "store"),
            _SNAPSHOT: partial(self._side, "snapshot"),
            _CURL: self._curl,
            _CURL_SAFE: self._curl_safely,
            _CLIENT: partial(self._side, "client", *self.names),
        }
        return {name: partial(self._counted, name, side) for name, side in sides.items()}

    def idle_sides(self) -> dict[str, Callable[[], float]]:
        """Return what each takes as a process where all is there; the hub cache and the store are left filled."""
        self._clear()
        self._side("maxbuild", self.folder / "store")
        environment = self._environment
        here = ("snapshot_download, HF_HUB_OFFLINE=1", {**environment, "HF_HUB_OFFLINE": "1"})
        return {
            _MAXBUILD: partial(seconds_of_process, (*_SIDE, "nothing", self.folder / "store"), environment),
            _SNAPSHOT: partial(seconds_of_process, (*_SIDE, "snapshot"), environment),
            here[0]: partial(seconds_of_process, (*_SIDE, "snapshot"), here[1]),
        }

    @property
    def _environment(self) -> dict[str, str]:
        return child_environment(
            HF_ENDPOINT=self.address, HF_HOME=self.folder / "home", HF_HUB_OFFLINE="0", DO_NOT_TRACK="1"
        )

    def _counted(self, name: str, side: Callable[[], float]) -> float:
        self._clear()
        before = _processor()
        seconds = side()
        self.processor.setdefault(name, []).append(_processor() - before)
        return seconds

    def _side(self, *arguments: str | Path) -> float:
        return float(run_process((*_SIDE, *arguments), self._environment).stdout)

    def _curl(self) -> float:
        target = self.folder / "curl"
        target.mkdir()
        config = target / "config"
        url = f"{self.address}/{REPOSITORY}/resolve/{COMMIT}"
        config.write_text("".join(f'url="{url}/{name}"\noutput="{target / name}"\n' for name in self.names))
        parallel = ("-Z", "--parallel-max", _AT_ONCE) if len(self.names) > 1 else ()
        return seconds_of_process(("curl", "--silent", "--fail", *parallel, "-K", config), self._environment)

    def _curl_safely(self) -> float:
        """Return what curl takes, and then what it leaves undone: the bytes on the disk, and their digests."""
        seconds = self._curl()
        files = [self.folder / "curl" / name for name in self.names]
        seconds += seconds_of_process(("sync", *files), self._environment)
        return seconds + seconds_of_process(("openssl", "dgst", "-sha256", *files), self._environment)

    def _clear(self) -> None:
        for name in ("home", "store", "curl"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        os.sync()


def _measure(options: argparse.Namespace, folder: Path) -> Figures:
    if shutil.which("curl") is None:
        raise BenchError("curl is not installed")
    sets = {
        f"1 file of {options.large} MiB": [("model.safetensors", options.large)],
        f"{options.many} files of 1 MiB": [(f"part-{number:03}.bin", 1) for number in range(options.many)],
    }
    tables, goals = [], []
    for title, files in sets.items():
        talk(title)
        source = folder / "source"
        _write(source, files)
        with _serving(source) as address:
            bench = _Bench(folder, address, [name for name, _ in files])
            samples = interleave(bench.sides(), options.repetitions, warm_ups=1)
            size = sum(mebibytes for _, mebibytes in files) * _MIB
            tables.append(_table(title, samples, size, bench.processor))
            goals.append(_goal(title, samples))
            idle = interleave(bench.idle_sides(), options.repetitions, warm_ups=1)
            tables.append(_idle_table(title, idle))
            goals.append(_idle_goal(title, idle))
        shutil.rmtree(source)
    notes = (
        f"medians of {options.repetitions} interleaved repetitions; the hub is a process of its own on the same host, "
        "and sends from the page cache (`sendfile`)",
        "maxbuild and `snapshot_download` are timed from the first request on, without their imports; the seconds of "
        "the processor are those of the whole process",
        "maxbuild hashes what passes, brings it to the disk (fsync) and notes it in its store; `snapshot_download` and "
        f"curl do not. `{_CURL_SAFE}` is what curl takes until as much is known of its files; `{_CLIENT}` is what no "
        "program in Python that uses it can go below",
        "nothing to do: whole processes; maxbuild reads its lock and its store, and compares stat tuples",
    )
    return Figures(tuple(tables), tuple(goals), notes)


def _table(title: str, samples: dict[str, Samples], size: int, processor: dict[str, list[float]]) -> Table:
    ours = samples[_MAXBUILD]
    rows: list[tuple[Cell, ...]] = [
        (name, size / 1e6 / side.median, side.median, side.spread, side.ratio(ours), median(processor[name]))
        for name, side in samples.items()
    ]
    columns = ("side", "MB/s", "seconds", "least to largest", "÷ maxbuild", "processor s")
    return Table(columns, tuple(rows), title)


def _goal(title: str, samples: dict[str, Samples]) -> Goal:
    others = {name: samples[name].ratio(samples[_MAXBUILD]) for name in (_SNAPSHOT, _CURL)}
    nearest = min(others, key=lambda name: others[name])
    found = ", ".join(f"{ratio:.2f} times that of {name}" for name, ratio in others.items())
    return Goal(f"{title}: ≥ {_LEAST} times the better of the two's speed", found, others[nearest] >= _LEAST)


def _idle_table(title: str, samples: dict[str, Samples]) -> Table:
    ours = samples[_MAXBUILD]
    rows: list[tuple[Cell, ...]] = [
        (name, side.median, side.spread, side.ratio(ours)) for name, side in samples.items()
    ]
    return Table(("process", "seconds", "least to largest", "÷ maxbuild"), tuple(rows), f"{title}: nothing to do")


def _idle_goal(title: str, samples: dict[str, Samples]) -> Goal:
    ratio = samples[_SNAPSHOT].ratio(samples[_MAXBUILD])
    return Goal(f"{title}, nothing to do: faster than `snapshot_download`", f"{ratio:.1f} times as fast", ratio > 1)


def _write(folder: Path, files: list[tuple[str, int]]) -> None:
    """Write `files`, by name and MiB, of pseudo-random bytes: a disk or a file system could make zeros cheap."""
    folder.mkdir()
    source = random.Random(0)
    for name, mebibytes in files:
        with (folder / name).open("wb") as file:
            for begin in range(0, mebibytes * _MIB, _PIECE):
                file.write(source.randbytes(min(_PIECE, mebibytes * _MIB - begin)))


@contextmanager
def _serving(folder: Path) -> Iterator[str]:
    """Lend the address of a hub that has the files of `folder`."""
    command = (sys.executable, "-m", "bench.hub_server", folder)
    with subprocess.Popen(
        command, env=child_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            if not (address := server.stdout.readline().strip()):
                raise BenchError("the hub did not start")
            yield address
        finally:
            server.stdin.close()


def _processor() -> float:
    """Return the processor seconds of all processes that this one has waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> int:
    """Read the options and run the bench."""
    parser = new_parser(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--large", type=int, default=4096, metavar="MIB", help="size of the one file")
    parser.add_argument("--many", type=int, default=200, metavar="N", help="how many files of 1 MiB")
    parser.add_argument("--repetitions", type=int, default=5, metavar="N")
    options = parser.parse_args()
    if options.quick:
        options.large, options.many, options.repetitions = 512, 40, 2
    return run_bench("download", _measure, options)


if __name__ == "__main__":
    sys.exit(main())
