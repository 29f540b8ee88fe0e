"""Publishing one large blob, against what a disk and a hash take for the same bytes; and the memory it takes.

As a process of its own: `python -m bench.engine_blob publish STORE FILE` or `digest FILE`; it prints the bytes of
memory it held at most.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.engine_tools import quiet_environment
from bench.harness import Cell, Figures, Goal, Samples, Table, interleave, run_process, seconds_of_process, talk

_PIECE = 2**24
_SMALL = 2**20
_MOST = 1.25
_MOST_MEMORY = 32 * 2**20
_CHILD = (sys.executable, "-m", "bench.engine_blob")
_PUBLISH = "publish"
_COPY = "cp, then sync"
_SYNC = "sync of a file just copied"
_SUM = "sha256sum"
_HASHLIB = "hashlib.file_digest"


class _Bench:
    """The sides; each finds the random file in the page cache and nothing else that waits for the disk."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self.memory: list[int] = []
        self._environment = quiet_environment()
        self._random, self._copy = folder / "random", folder / "copy"
        _write_random(self._random, size)

    def sides(self) -> dict[str, Callable[[], float]]:
        """Return the measurable sides by name."""
        return {
            _PUBLISH: partial(self._published, self._random),
            _COPY: self._copied,
            "cp": lambda: self._seconds("cp", self._random, self._fresh()),
            _SYNC: self._synced,
            _SUM: lambda: self._seconds(_SUM, self._random),
            _HASHLIB: lambda: self._seconds(*_CHILD, "digest", self._random),
        }

    def memory_of_small(self) -> int:
        """Return the bytes of memory that publishing a small blob takes."""
        small = self.folder / "small"
        _write_random(small, _SMALL)
        self._published(small)
        return self.memory.pop()

    def _published(self, file: Path) -> float:
        """Publish a copy of `file` that was just written, as a step leaves its output."""
        store = self.folder / "store"
        shutil.rmtree(store, ignore_errors=True)
        copy = self._fresh()
        self._seconds("cp", file, copy)
        begin = time.perf_counter()
        done = run_process((*_CHILD, _PUBLISH, store, copy), self._environment)
        seconds = time.perf_counter() - begin
        self.memory.append(int(done.stdout))
        shutil.rmtree(store)
        return seconds

    def _copied(self) -> float:
        copy = self._fresh()
        return self._seconds("cp", self._random, copy) + self._seconds("sync", copy)

    def _synced(self) -> float:
        copy = self._fresh()
        self._seconds("cp", self._random, copy)
        return self._seconds("sync", copy)

    def _seconds(self, *command: str | Path) -> float:
        return seconds_of_process(command, self._environment)

    def _fresh(self) -> Path:
        self._copy.unlink(missing_ok=True)
        os.sync()
        return self._copy


def measure_blob(options: argparse.Namespace, folder: Path) -> Figures:
    """Return the figures of a blob of `options.blob_gib`, or goals not measured where the disk has no room for it."""
    size = int(options.blob_gib * 2**30)
    free = shutil.disk_usage(folder).free
    if free < 3 * size + 2**30:
        found = f"{free / 2**30:.0f} GiB are free, three times the blob are needed"
        return Figures((), (Goal(_time_goal_of(size), found, None), Goal(_memory_goal_of(size), found, None)))
    talk(f"writing {size / 2**30:.2f} GiB of random bytes")
    bench = _Bench(folder, size)
    samples = interleave(bench.sides(), options.blob_repetitions, warm_ups=1)
    large = max(bench.memory)
    return Figures(
        (_table(samples, size),),
        (_time_goal(samples, size), _memory_goal(large, bench.memory_of_small(), size)),
        (
            "a step's output is published by a link, never copied: what it takes is one reading for the hash, and the "
            "wait for the disk to have what the step has just written",
        ),
    )


def _table(samples: dict[str, Samples], size: int) -> Table:
    published = samples[_PUBLISH]
    rows: list[tuple[Cell, ...]] = [
        (name, side.median, side.spread, size / 2**30 / side.median, side.ratio(published))
        for name, side in samples.items()
    ]
    title = f"a blob of {size / 2**30:g} GiB"
    return Table(("side", "seconds", "least to largest", "GiB/s", "÷ publish"), tuple(rows), title)


def _time_goal(samples: dict[str, Samples], size: int) -> Goal:
    """Judge by the slower of disk and hash; the hash's limit is that of its faster program."""
    hashing = min(samples[_SUM], samples[_HASHLIB], key=lambda side: side.median)
    limit = max(samples[_COPY], hashing, key=lambda side: side.median)
    strict = max(samples[_SYNC], hashing, key=lambda side: side.median)
    ratio = samples[_PUBLISH].ratio(limit)
    found = f"{ratio:.2f} times; without the copying {samples[_PUBLISH].ratio(strict):.2f} times"
    return Goal(_time_goal_of(size), found, ratio <= _MOST)


def _time_goal_of(size: int) -> str:
    return f"publishing {size / 2**30:g} GiB ≤ {_MOST} times the slower of `cp` with sync and SHA-256"


def _memory_goal(large: int, small: int, size: int) -> Goal:
    found = f"{large / 2**20:.0f} MiB against {small / 2**20:.0f}"
    return Goal(_memory_goal_of(size), found, large - small <= _MOST_MEMORY)


def _memory_goal_of(size: int) -> str:
    return f"publishing {size / 2**30:g} GiB takes ≤ {_MOST_MEMORY // 2**20} MiB of memory more than publishing 1 MiB"


def _write_random(path: Path, size: int) -> None:
    with path.open("wb") as file:
        for begin in range(0, size, _PIECE):
            file.write(os.urandom(min(_PIECE, size - begin)))
        file.flush()
        os.fsync(file.fileno())


def _most_memory() -> int:
    """Return the most bytes this process held; `ru_maxrss` would tell also what its parent held before the exec."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def main() -> int:
    """Do one side of the bench."""
    match sys.argv[1:]:
        case ["publish", root, file]:
            from maxbuild.engine import Store  # noqa: PLC0415 - the other side has no use for it

            with Store(Path(root)) as store:
                store.publish(Path(file))
        case ["digest", file]:
            with Path(file).open("rb") as stream:
                hashlib.file_digest(stream, "sha256")
        case _:
            return 2
    print(_most_memory())
    return 0


if __name__ == "__main__":
    sys.exit(main())
