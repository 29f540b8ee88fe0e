"""Builds over tampered indexes, in a process that watches itself: what it opens, removes, runs or unpickles is told.

Reads `{"folder": where, "changes": [SQL, ...]}` from stdin, builds once for each change over a store of its own whose
index was changed so, and prints what became of each: the audit events there should be none of, what was built, what
was warned of.
"""

from __future__ import annotations

import json
import os
import pickle
import sqlite3
import sys
import traceback
import warnings
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import diskcache
from conftest import ToyPlan, small_build
from toys import KINDS

from maxbuild.engine import Report, Store, execute

NEVER = frozenset(
    {
        *("pickle.find_class", "marshal.loads", "import", "exec", "compile", "code.__new__", "ctypes.dlopen"),
        *("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect"),
        *("sqlite3.enable_load_extension", "sqlite3.load_extension"),
    }
)
WITH_PATHS = frozenset(
    {
        *("open", "os.remove", "os.rename", "os.link", "os.symlink", "os.chmod", "os.mkdir", "os.rmdir", "os.truncate"),
        *("os.utime", "os.listdir", "os.scandir", "shutil.rmtree", "shutil.copyfile", "sqlite3.connect"),
    }
)


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        """Make `path`."""
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        """Make the folder."""
        return os.mkdir, (str(self.path),)


class Watch:
    """Notes audit events that a build over an index has no business with."""

    def __init__(self) -> None:
        """Watch nothing yet; a hook can never be taken away."""
        self.seen: list[str] = []
        self._inside: tuple[str, ...] | None = None
        sys.addaudithook(self._note)

    def begin(self, inside: Sequence[Path]) -> None:
        """Note what leaves the folders `inside` from now on."""
        self.seen = []
        self._inside = tuple(os.path.realpath(path) for path in inside)

    def end(self) -> list[str]:
        """Stop noting, and return what there was."""
        self._inside = None
        return self.seen

    def _note(self, event: str, arguments: tuple[object, ...]) -> None:
        if self._inside is None:
            return
        if event in NEVER:
            self.seen.append(f"{event} {arguments[:2]}")
        elif event in WITH_PATHS:  # a name without a slash is below an open folder, or a mode
            texts = [os.fsdecode(value) for value in arguments if isinstance(value, str | bytes | os.PathLike)]
            paths = [text.removeprefix("file:").partition("?")[0] for text in texts if "/" in text]
            outside = [path for path in paths if not os.path.realpath(path).startswith(self._inside)]
            self.seen.extend(f"{event} {path}" for path in outside)


def build(root: Path) -> tuple[Report, str]:
    """Build in the store at `root`; return the report and what the last task left."""
    with Store(root) as store:
        report = execute(ToyPlan(small_build()), store, KINDS, scope="world", jobs=1)
        store.statistics()
        path = store.blob_path(report.results["z"].outputs["out"]) if report.complete else None
        return report, path.read_text() if path else ""


def tamper(database: Path, change: str, bomb: Path, outside: Path) -> None:
    """Carry out a change, in which `:bomb`, `:outside` and `:absolute` stand for what an attacker would put there."""
    values = {
        "bomb": pickle.dumps(Bomb(bomb)),
        "outside": os.path.relpath(outside, database.parent),
        "absolute": str(outside),
    }
    with closing(sqlite3.connect(database)) as connection:
        if change.startswith("UPDATE"):
            connection.execute(change, {name: value for name, value in values.items() if f":{name}" in change})
            connection.commit()
        else:
            connection.executescript(change)


def told(watch: Watch, folder: Path, change: str) -> dict[str, Any]:
    """Build, change the index, build again under watch, and tell what there was to see, or the error that ended it."""
    try:
        return _told(watch, folder, change)
    except Exception:  # noqa: BLE001 - the test shows it
        watch.end()
        return {"error": traceback.format_exc()}


def _told(watch: Watch, folder: Path, change: str) -> dict[str, Any]:
    store, bomb, outside = folder / "store", folder / "bomb", folder / "outside"
    folder.mkdir()
    outside.write_bytes(pickle.dumps(Bomb(bomb)))
    clean, _ = build(store)
    tamper(store / "v1" / "index" / "cache.db", change, bomb, outside)
    before = outside.stat()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        watch.begin([store, Path("/proc/self"), Path(f"/proc/{os.getpid()}"), Path(os.environ["MAXBUILD_TOY_LEDGER"])])
        report, content = build(store)
        seen = watch.end()
    again, _ = build(store)
    return {
        "error": None,
        "seen": seen,
        "right": report.complete and content == "(x())" and report.results == clean.results,
        "again": sorted({task.state.value for task in again.tasks}),
        "warnings": sorted({str(warning.message) for warning in caught}),
        "untouched": outside.stat() == before and not bomb.exists(),
    }


def main() -> None:
    """Take what is to be imported and to be read once for granted, then tell what became of each change."""
    orders = json.loads(sys.stdin.read())
    folder = Path(orders["folder"])
    os.fsync = lambda _descriptor: None
    for name in ("load", "loads", "Unpickler"):
        setattr(diskcache.core.pickle, name, None)  # the C unpickler asks the audit hook for classes only
    watch = Watch()
    told(watch, folder / "first", "UPDATE Cache SET mode = 4")
    answers = {change: told(watch, folder / str(number), change) for number, change in enumerate(orders["changes"])}
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
