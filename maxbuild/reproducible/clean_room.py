"""The clean room: an empty store in a folder of its own, and steps that are another user's, with nothing in common.

Invariant: whatever becomes of the build, the room is gone afterwards. It lies in the scratch folder of the first
store's session, which the next session sweeps should this process be killed.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import maxbuild
from maxbuild.engine import Kind, Renewal, Report, Store, disk
from maxbuild.engine.executor import LocalExecutor
from maxbuild.engine.isolation import python_command
from maxbuild.errors import StoreError

# What a step needs to reach the programs and libraries that its key names by version; nothing else is handed on, so a
# variable that shapes a result without standing in a key shows.
_HANDED_ON = ("PATH", "CXX", "LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONHOME")

# The engine tells a step by its environment where temporary files and modules lie. Other places of the same modules
# come before those.
_START = 'umask 0077; exec env -i "TMPDIR=$TMPDIR" "PYTHONPATH=$0:$PYTHONPATH" "$@"'
_LIBRARIES = frozenset({"site-packages", "dist-packages"})


@dataclass(frozen=True, slots=True)
class CleanRoom:
    """Where a second build takes place: its store, and the kinds and the executor to build with."""

    store: Store
    kinds: Mapping[str, Kind]
    executor: LocalExecutor


@contextmanager
def open_clean_room(first: Report, store: Store, kinds: Mapping[str, Kind]) -> Iterator[CleanRoom]:
    """Lend a room in which to do again what `first` came to in `store`; downloads are there already.

    Raise StoreError where the disk of `store` has no room for as much again.
    """
    store.check_writable()
    with store.workspace("reproducible") as folder:
        _require_space(first, store, kinds, folder)
        with Store(folder / "store") as clean:
            _bring_downloads(first, store, clean, kinds)
            yield CleanRoom(clean, _isolated(kinds), LocalExecutor(_command(folder, os.environ)))


def surroundings(folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of steps that work in `folder`, each other than in `environ` as far as it may not matter."""
    spoken = environ.get("LC_ALL") or environ.get("LC_CTYPE") or environ.get("LANG") or "C"
    threads = environ.get("OMP_NUM_THREADS") or str(len(os.sched_getaffinity(0)))
    return {
        **{name: environ[name] for name in _HANDED_ON if name in environ},
        "HOME": os.fspath(folder / "home"),
        "USER": "somebody",
        "LOGNAME": "somebody",
        "PYTHONHASHSEED": "1",  # the engine's own choice for isolated steps is 0
        "LC_ALL": "C.UTF-8" if spoken in ("C", "POSIX") else "C",
        "TZ": "Asia/Kathmandu",  # a quarter of an hour off all that is usual
        "OMP_NUM_THREADS": "3" if threads != "3" else "2",
        "HF_HUB_OFFLINE": "1",  # what has to come from a hub is there
    }


def _command(folder: Path, environ: Mapping[str, str]) -> list[str]:
    """Return the command that starts a step in other surroundings."""
    disk.make_directory(folder / "home")
    modules = os.pathsep.join(os.fspath(place) for place in (_copy_maxbuild(folder), *_link_libraries(folder)))
    variables = [f"{name}={value}" for name, value in surroundings(folder, environ).items()]
    return ["/bin/sh", "-c", _START, modules, *variables, *python_command("maxbuild.engine.worker")]


def _copy_maxbuild(folder: Path) -> Path:
    checkout = folder / "checkout"
    with disk.effect("copy maxbuild to", checkout):
        shutil.copytree(Path(maxbuild.__file__).parent, checkout / "maxbuild")
    return checkout


def _link_libraries(folder: Path) -> Iterator[Path]:
    """Make folders in `folder` through which all installed libraries are found under another path."""
    installed = [path for path in map(Path, sys.path) if path.name in _LIBRARIES and path.is_dir()]
    for number, libraries in enumerate(installed):
        place = folder / f"libraries-{number}"
        with disk.effect("create links in", place):
            place.mkdir()
            for library in libraries.absolute().iterdir():
                (place / library.name).symlink_to(library)
        yield place


def _isolated(kinds: Mapping[str, Kind]) -> dict[str, Kind]:
    """Return `kinds` with steps in processes of their own, which alone can have other surroundings; not downloads."""
    return {
        name: kind if kind.renewal is Renewal.DOWNLOAD else kind._replace(isolated=True) for name, kind in kinds.items()
    }


def _bring_downloads(first: Report, store: Store, clean: Store, kinds: Mapping[str, Kind]) -> None:
    """Let `clean` have the downloads of `store` by reference: a key that pins their content leaves nothing to prove."""
    for task in first.tasks:
        if kinds[task.kind].renewal is not Renewal.DOWNLOAD or task.key is None:
            continue
        record = store.find_result(task.key)
        if record is None:  # it was lost a moment ago: then it comes again from where it came
            continue
        for digest in record.result.outputs.values():
            if (path := store.hold(digest)) is not None:
                clean.adopt(path)
        clean.record_result(record)


def _require_space(first: Report, store: Store, kinds: Mapping[str, Kind], folder: Path) -> None:
    """Raise StoreError unless what the first build left in `store` fits on the disk of `folder` once more."""
    made = {
        digest
        for task in first.tasks
        if kinds[task.kind].renewal is not Renewal.DOWNLOAD and task.name in first.results
        for digest in first.results[task.name].outputs.values()
    }
    paths = [path for digest in made if (path := store.blob_path(digest)) is not None and store.blobs.owns(path)]
    needed = sum(path.stat().st_size for path in paths)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise StoreError(
            "there is no room for a second build",
            causes=[f"it needs {needed} bytes where the store `{store.root}` is, and {free} bytes are free there"],
            hint="free some space, or choose another disk with MAXBUILD_STORE",
        )
