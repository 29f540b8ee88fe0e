"""`maxbuild log`: what a task printed in its newest run, whether or not it failed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from maxbuild.cli.runnames import find_named_run, require_tasks
from maxbuild.cli.runs import scope_of
from maxbuild.cli.tasknames import find_name
from maxbuild.engine import State, Store, default_store_root
from maxbuild.engine.journal import Run, RunTask
from maxbuild.errors import StoreError, UsageError, printable
from maxbuild.report.runs import run_name
from maxbuild.report.terminal import terminal_of
from maxbuild.report.words import one_line, state_word

_MANIFESTS = frozenset({".yaml", ".yml"})


def log(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[MANIFEST] TASK", help="A task of the newest run (of MANIFEST), or enough words of its name."
        ),
    ],
    *,
    run: Annotated[str, typer.Option("--run", metavar="RUN", help="Ask about this run, not the newest.")] = "last",
) -> None:
    """Print what a task printed: the compiler's words, a traceback.

    Tasks in processes of their own (trace, load, compile) always leave a log; the others leave one where they fail.
    """
    manifest, query = split_words(words)
    with Store(default_store_root(os.environ)) as store:
        print_log(run, query, store, scope_of(manifest) if manifest is not None else None)


def split_words(words: list[str]) -> tuple[Path | None, str]:
    """Return the manifest that `words` begin with, None where they do not, and the rest, which is a task."""
    first = Path(words[0])
    manifest = first if first.suffix in _MANIFESTS or (len(words) > 1 and first.is_file()) else None
    rest = words[1:] if manifest is not None else words
    if not " ".join(rest).strip():
        raise UsageError("argument `TASK` is missing", hint="`maxbuild log MANIFEST TASK`, as in `trace main`")
    return manifest, " ".join(rest)


def print_log(name: str, query: str, store: Store, scope: str | None = None) -> None:
    """Print the log of the task that `query` means in the run called `name`; UsageError where there is none."""
    run = find_named_run(name, store, scope)
    require_tasks(run)
    found = find_name(query, list(run.tasks), otherwise=f"{run_name(run)} had no task of such a name")
    task = run.tasks[found]
    path = store.log_path(task.key) if task.key is not None else None
    talk = terminal_of(sys.stderr, os.environ)
    try:
        content = path.read_bytes() if path is not None else None
    except FileNotFoundError:
        content = None
    except OSError as error:
        raise StoreError(f"could not read `{path}`", causes=[error.strerror or str(error)]) from error
    if content is None:
        raise _no_log(task, run)
    about = f"{one_line(task.name)}, {state_word(task.state, afterwards=True)} in {run_name(run)}"
    talk.write(f"{about}:" if content else f"{about}: it printed nothing")
    _print(content)


def _no_log(task: RunTask, run: Run) -> UsageError:
    return UsageError(
        f"there is no log of `{task.name}`", causes=[_why_none(task)], hint=f"this is about {run_name(run)}"
    )


def _why_none(task: RunTask) -> str:
    match task.state:
        case State.SKIPPED:
            return "it was skipped: what it consumes from failed"
        case State.WOULD_RUN | State.WAITING:
            return "it was not started"
        case State.FETCHED:
            return "it was fetched from a remote cache and never ran here"
        case State.CACHED:
            return "its result was there, and the run that made it kept no log, or the log is gone"
        case _ if task.error is not None:
            return f"it failed before it ran: {task.error}"
        case _:
            return "it ran within maxbuild itself, which keeps a log of failures only, or its log is gone"


def _print(content: bytes) -> None:
    """Print a log as it is, or so that it cannot steer the terminal that it is printed on."""
    if not content:
        return
    if sys.stdout.isatty():
        typer.echo(printable(content.decode(errors="backslashreplace")), nl=not content.endswith(b"\n"))
    else:
        sys.stdout.flush()
        typer.echo(content, nl=False)
