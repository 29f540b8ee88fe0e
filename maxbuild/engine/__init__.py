"""The engine: carries out a growing graph of tasks, each only if its result is not in the store, and says why.

It knows tasks, content and keys; no manifests, no models, no terminal. Everything public is named here.
"""

from __future__ import annotations

from maxbuild.engine.canonical import JSON, canonical_json
from maxbuild.engine.digest import Digest, TaskKey, hash_bytes, hash_file
from maxbuild.engine.document import Document
from maxbuild.engine.events import Event, GraphGrew, OnEvent, TaskFinished, TaskProgress, TaskStarted, TaskWaits
from maxbuild.engine.explain import Explanation, Reason, compare
from maxbuild.engine.graph import Deferred, Plan
from maxbuild.engine.index import BrokenIndexWarning
from maxbuild.engine.records import Last, Record, Result
from maxbuild.engine.report import Report, State, TaskReport
from maxbuild.engine.scheduler import execute, survey
from maxbuild.engine.store import Statistics, Store, default_store_root
from maxbuild.engine.task import Job, Kind, OutputOf, Progress, Renewal, SourceFile, Task, Vouched

__all__ = [
    "JSON",
    "BrokenIndexWarning",
    "Deferred",
    "Digest",
    "Document",
    "Event",
    "Explanation",
    "GraphGrew",
    "Job",
    "Kind",
    "Last",
    "OnEvent",
    "OutputOf",
    "Plan",
    "Progress",
    "Reason",
    "Record",
    "Renewal",
    "Report",
    "Result",
    "SourceFile",
    "State",
    "Statistics",
    "Store",
    "Task",
    "TaskFinished",
    "TaskKey",
    "TaskProgress",
    "TaskReport",
    "TaskStarted",
    "TaskWaits",
    "Vouched",
    "canonical_json",
    "compare",
    "default_store_root",
    "execute",
    "hash_bytes",
    "hash_file",
    "survey",
]
