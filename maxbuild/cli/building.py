"""One build from its options to its exit code: executed with progress and a journal, then told and concluded."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from maxbuild.cli.entry import GOES_ON, INTERRUPTED
from maxbuild.engine import Event, Kind, Plan, Report, State, Store, execute
from maxbuild.engine.journal import Journal
from maxbuild.errors import MaxbuildError, UsageError, WorkFound
from maxbuild.report.blocks import error_text
from maxbuild.report.documents import document, remote_content, report_content
from maxbuild.report.lint import lint_content, lint_text
from maxbuild.report.progress import show_progress
from maxbuild.report.summary import closing_line, failures, log_hint, nothing_to_do, remote_line, tasks_table
from maxbuild.report.terminal import Terminal
from maxbuild.targets.toolchain import library_versions

if TYPE_CHECKING:
    from maxbuild.cli.reproducible import Verification
    from maxbuild.engine.executor import Executor
    from maxbuild.engine.lint import LintReport
    from maxbuild.engine.remote import RemoteStatistics
    from maxbuild.engine.sharing import Sharing


@dataclass(frozen=True, slots=True)
class Wishes:
    """How to build and what to tell: the scope of reasons, limits, and what the options said.

    `memory` is in bytes; None is no limit. `rerun` names tasks to run whatever the store has.
    """

    scope: str
    jobs: int
    keep_going: bool = False
    verbose: bool = False
    json: bool = False
    memory: int | None = None
    frozen: bool = False
    rerun: Sequence[str] = ()
    sharing: Sharing | None = None
    executor: Executor | None = None
    lint: Sequence[LintReport] | None = None
    """What a lint found, filled while the build runs; None where there is none."""


@dataclass(frozen=True, slots=True)
class Built:
    """What a build came to, and the run that its journal is called by; None where none is written."""

    report: Report
    run: str | None


def build(plan: Plan, store: Store, kinds: Mapping[str, Kind], wishes: Wishes, talk: Terminal) -> Built:
    """Execute `plan`, show its progress on `talk`, and keep a journal of it."""
    with (
        Journal.begin(
            store, wishes.scope, spoken_command(), version=library_versions("maxbuild")["maxbuild"]
        ) as journal,
        show_progress(talk) as show,
    ):

        def take(event: Event) -> None:
            journal(event)
            show(event)

        run = journal.run if journal.is_written else None
        report = execute(
            plan,
            store,
            kinds,
            scope=wishes.scope,
            jobs=wishes.jobs,
            memory=wishes.memory,
            # All misses are told at once, and none of them costs anything.
            keep_going=wishes.keep_going or wishes.frozen,
            frozen=wishes.frozen,
            rerun=wishes.rerun,
            executor=wishes.executor,
            sharing=wishes.sharing,
            on_event=take,
        )
        journal.end(report)
    return Built(report, run)


def spoken_command() -> list[str]:
    """Return the command line of this process, without what an address in it says of who asks."""
    spoken = [re.sub(r"(?<=://)[^/@\s]+@", "***@", word) if "@" in word else word for word in sys.argv[1:]]
    return ["maxbuild", *spoken]


def conclude(
    built: Built,
    packages: Sequence[Path],
    wishes: Wishes,
    talk: Terminal,
    seconds: float,
    verify: Callable[[], Verification] | None = None,
) -> None:
    """Tell what a build came to, and exit with its code where that is not 0.

    verify: builds a complete build's packages a second time, once the first is told.
    """
    report = built.report
    errors = _tell(built, wishes, talk, seconds)
    verification = verify() if verify is not None and report.complete else None
    if verification is not None:
        _tell_verification(verification, talk)
    if wishes.json:
        content = report_content(wishes.scope, report, seconds, packages)
        linted = {} if wishes.lint is None else {"lint": lint_content(wishes.lint)}
        verified = {} if verification is None else {"reproducible": verification.content()}
        remote = remote_content(_passed(wishes))
        typer.echo(document("warm", {**content, "run": built.run, "remote": remote, **linted, **verified}))
    else:
        for path in packages:
            typer.echo(path)
    _leave(report, errors, wishes, talk)
    if verification is not None and verification.errors:
        raise typer.Exit(1)


def _tell(built: Built, wishes: Wishes, talk: Terminal, seconds: float) -> Sequence[MaxbuildError]:
    """Tell on stderr what a build came to, and return the errors of its tasks."""
    report = built.report
    quiet = report.complete and len(report.in_state(State.CACHED)) == len(report.tasks)
    if not quiet or wishes.verbose:
        if not quiet and not talk.live:
            talk.write()  # the lines of progress are still there
        talk.write(tasks_table(report, talk, afterwards=True))
        talk.write()
    errors = failures(report)
    _tell_errors(errors, talk)
    closing = closing_line(wishes.scope, report, seconds, afterwards=True)
    talk.write(nothing_to_do(report, seconds) if quiet else closing)
    remote = _passed(wishes)
    if remote is not None and (not quiet or wishes.verbose):
        talk.write(remote_line(remote))
    if wishes.lint is not None:
        talk.write(lint_text(wishes.lint, talk, verbose=wishes.verbose))
    if built.run is not None and (hint := log_hint(report, built.run, talk)):
        talk.write(hint)
    return errors


def _tell_verification(verification: Verification, talk: Terminal) -> None:
    if not talk.live:
        talk.write()
    _tell_errors(verification.errors, talk)
    talk.write(verification.text())


def _tell_errors(errors: Sequence[MaxbuildError], talk: Terminal) -> None:
    for error in errors:
        talk.write(error_text(error, talk))
        talk.write()


def _passed(wishes: Wishes) -> RemoteStatistics | None:
    return wishes.sharing.cache.statistics() if wishes.sharing is not None else None


def _leave(report: Report, errors: Sequence[MaxbuildError], wishes: Wishes, talk: Terminal) -> None:
    if report.interrupted:
        talk.write(GOES_ON)
        raise typer.Exit(INTERRUPTED)
    if not report.complete:
        only_misses = wishes.frozen and all(isinstance(error, WorkFound) for error in errors)
        raise typer.Exit(WorkFound.exit_code if only_misses else 1)
    if any(task.findings for task in wishes.lint or ()):
        raise typer.Exit(1)
    if wishes.rerun:
        _check_reruns(wishes.rerun, [task.name for task in report.tasks])


def _check_reruns(wanted: Sequence[str], names: Sequence[str]) -> None:
    """Raise UsageError where a task that was to be rerun turned out to be none."""
    for name in wanted:
        if name not in names:
            near = get_close_matches(name, names, n=1)
            raise UsageError(
                f"no task was called `{name}`, so `--rerun` ran nothing for it",
                hint=f"did you mean `{near[0]}`?" if near else "`maxbuild plan` lists the tasks",
            )
