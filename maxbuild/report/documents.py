"""Reports as JSON documents, for programs. Each names its schema; fields are only ever added within one version."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from maxbuild.engine import Report, State, TaskReport

if TYPE_CHECKING:
    from maxbuild.engine.remote import RemoteStatistics


def document(command: str, content: Mapping[str, object]) -> str:
    """Return the text of the document that `command` leaves on stdout."""
    return json.dumps({"schema": f"maxbuild.{command}.v1", **content}, indent=2, ensure_ascii=False)


def report_content(name: str, report: Report, seconds: float, packages: Sequence[Path] = ()) -> dict[str, object]:
    """Return what a build or a survey of the manifest `name` came to, after `seconds`."""
    return {
        "manifest": name,
        "seconds": round(seconds, 3),
        "interrupted": report.interrupted,
        "counts": {str(state): len(report.in_state(state)) for state in State},
        "tasks": [task_content(task) for task in report.tasks],
        "deferred": [{"after": part.after, "what": part.what} for part in report.deferred],
        "packages": [str(path) for path in packages],
    }


def task_content(task: TaskReport) -> dict[str, object]:
    """Return one task: its state, its reasons old → new, and what the run that made its result took."""
    return {
        "name": task.name,
        "kind": task.kind,
        "state": str(task.state),
        "key": task.key,
        "reasons": [explanation.to_json() for explanation in task.explanations],
        "seconds": None if task.seconds is None else round(task.seconds, 3),
        "bytes": task.bytes,
        "error": None if task.error is None else task.error.to_json(),
        "log": None if task.log is None else str(task.log),
    }


def remote_content(passed: RemoteStatistics | None) -> dict[str, object] | None:
    """Return what passed between a build and its remote cache; None where it had none."""
    return None if passed is None else asdict(passed)
