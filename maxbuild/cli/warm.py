"""`maxbuild warm`: build what a manifest describes. stdout gets the paths of the packages, stderr everything else."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from maxbuild.cli.entry import GOES_ON, INTERRUPTED
from maxbuild.cli.options import Json, ManifestFile, Overrides, Targets
from maxbuild.cli.plan import show_plan
from maxbuild.cli.project import Project, open_project
from maxbuild.engine import Kind, Plan, Report, State, Store, execute
from maxbuild.packages import place_packages
from maxbuild.plan import KINDS
from maxbuild.report.blocks import error_text
from maxbuild.report.documents import document, report_content
from maxbuild.report.progress import show_progress
from maxbuild.report.summary import closing_line, failures, nothing_to_do, tasks_table
from maxbuild.report.terminal import Terminal, terminal_of

_MOST_DEFAULT_JOBS = 8


def warm(
    manifest: ManifestFile,
    *,
    target: Targets = None,
    override: Overrides = None,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Where packages go.")] = Path(
        "packages"
    ),
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Tasks at once.", show_default="one per CPU, at most 8")
    ] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", "-k", help="After a failure, go on with what does not need it.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Show what would be done, as `plan` does.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show all tasks also when nothing ran.")] = False,
    json: Json = False,
) -> None:
    """Build what a manifest describes, doing only what is missing.

    Prints the path of each package on stdout. A second run does only what changed since, and says why.
    """
    begin = time.monotonic()
    with open_project(manifest, target, override, pin=not dry_run) as project:
        if dry_run:
            show_plan(project, values=False, json=json)
            return
        wishes = Wishes(project.manifest.name, jobs or _default_jobs(), keep_going, verbose, json)
        _build(project, wishes, output, begin)


@dataclass(frozen=True, slots=True)
class Wishes:
    """How to build and what to tell: the scope of reasons, tasks at once, and what the options said."""

    scope: str
    jobs: int
    keep_going: bool = False
    verbose: bool = False
    json: bool = False


def _default_jobs() -> int:
    # More than these seldom help and each may hold gigabytes; who has the memory asks for more.
    return min(len(os.sched_getaffinity(0)), _MOST_DEFAULT_JOBS)


def _build(project: Project, wishes: Wishes, output: Path, begin: float) -> None:
    talk = terminal_of(sys.stderr, os.environ)
    report = build(project.plan, project.store, KINDS, wishes, talk)
    packages: Sequence[Path] = ()
    if not report.interrupted and (report.complete or wishes.keep_going):
        packages = place_packages(project.plan, report, project.store, output)
    conclude(report, packages, wishes, talk, time.monotonic() - begin)


def build(plan: Plan, store: Store, kinds: Mapping[str, Kind], wishes: Wishes, talk: Terminal) -> Report:
    """Execute `plan` and show its progress on `talk`."""
    with show_progress(talk) as on_event:
        return execute(
            plan,
            store,
            kinds,
            scope=wishes.scope,
            jobs=wishes.jobs,
            keep_going=wishes.keep_going,
            on_event=on_event,
        )


def conclude(report: Report, packages: Sequence[Path], wishes: Wishes, talk: Terminal, seconds: float) -> None:
    """Tell what a build came to, and exit with its code where that is not 0."""
    quiet = report.complete and not report.in_state(State.BUILT)
    if not quiet or wishes.verbose:
        if not quiet and not talk.live:
            talk.write()  # the lines of progress are still there
        talk.write(tasks_table(report, talk, afterwards=True))
        talk.write()
    for error in failures(report):
        talk.write(error_text(error, talk))
        talk.write()
    closing = closing_line(wishes.scope, report, seconds, afterwards=True)
    talk.write(nothing_to_do(report, seconds) if quiet else closing)
    if wishes.json:
        typer.echo(document("warm", report_content(wishes.scope, report, seconds, packages)))
    else:
        for path in packages:
            typer.echo(path)
    if report.interrupted:
        talk.write(GOES_ON)
        raise typer.Exit(INTERRUPTED)
    if not report.complete:
        raise typer.Exit(1)
