"""The run journal: what every build did, a file of JSON lines for each, appended to as things happen.

It is a record and decides nothing: a journal that cannot be written costs one warning, and what is no line of one is
passed over when it is read. Its times tell runs apart and put them in order for people; no result hangs on them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from maxbuild.engine.journal.writing import Journal, JournalWarning

if TYPE_CHECKING:
    from maxbuild.engine.journal.lines import RunTask
    from maxbuild.engine.journal.reading import (
        Run,
        RunState,
        each_run,
        find_run,
        newest_run,
        pin,
        run_ids,
        runs,
        unpin,
        used,
    )

__all__ = [
    "Journal",
    "JournalWarning",
    "Run",
    "RunState",
    "RunTask",
    "each_run",
    "find_run",
    "newest_run",
    "pin",
    "run_ids",
    "runs",
    "unpin",
    "used",
]


def __getattr__(name: str) -> Any:
    """Import what reads journals when somebody asks for it: a build only writes one."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from maxbuild.engine.journal import reading  # noqa: PLC0415

    return getattr(reading, name)
