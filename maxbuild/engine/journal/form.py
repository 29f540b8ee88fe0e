"""The form of journals: names of files, and what a line says, one way and back.

begin   {"run", "schema", "scope", "begun", "command", "maxbuild"}
task    {"task", "kind", "state", "key"}, and what there is of "reasons", "seconds", "bytes", "error", "document"
pin     {"pinned"}
end     {"ended", "counts", "interrupted"}, and "same_tasks_as" where tasks that were found done are not listed
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from maxbuild.engine.explain import explanations_to_json
from maxbuild.engine.report import TaskReport
from maxbuild.engine.store import LAYOUT, Store

SCHEMA = 1
SUFFIX = ".jsonl"


def runs_folder(store: Store) -> Path:
    """Return the folder of all journals of `store`."""
    return store.root / LAYOUT / "runs"


def pointer_path(folder: Path, scope: str) -> Path:
    """Return the file that names the newest run of `scope` which lists all its tasks."""
    return folder / f"{hashlib.sha256(scope.encode(errors='backslashreplace')).hexdigest()[:16]}.newest"


def spell_time(seconds: float) -> str:
    """Return a time, in seconds since 1970, as RFC 3339 has it, in UTC.

    It is exact to the microsecond: null builds of small plans follow each other within a millisecond, and runs are
    put in order by it.
    """
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def spell(line: Mapping[str, object]) -> str:
    """Return a line as it stands in the file."""
    return json.dumps(line, separators=(",", ":")) + "\n"


def task_line(report: TaskReport) -> dict[str, object]:
    """Return the line of a task."""
    line: dict[str, object] = {
        "task": report.name,
        "kind": report.kind,
        "state": str(report.state),
        "key": report.key,
    }
    if report.explanations:
        line["reasons"] = explanations_to_json(report.explanations)
    if report.seconds is not None:
        line["seconds"] = report.seconds
    if report.bytes is not None:
        line["bytes"] = report.bytes
    if report.error is not None:
        line["error"] = report.error.to_json()
    if report.document is not None:
        line["document"] = report.document.text
    return line
