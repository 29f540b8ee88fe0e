"""`maxbuild warm`: build what a manifest describes. stdout gets the paths of the packages, stderr everything else."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maxbuild.cli.building import Wishes, build, conclude
from maxbuild.cli.helpers import open_executor, open_lint, open_sharing
from maxbuild.cli.memory import memory_for_builds, parse_memory
from maxbuild.cli.network import Offline, reachable, require_files, use_network
from maxbuild.cli.options import Json, ManifestOrValues, Overrides, PackageFolder, Targets, Variants
from maxbuild.cli.plan import show_plan
from maxbuild.cli.project import Project, open_project
from maxbuild.cli.tasknames import find_task
from maxbuild.cli.values import said
from maxbuild.engine import Report
from maxbuild.errors import UsageError
from maxbuild.packages import place_packages
from maxbuild.plan import KINDS
from maxbuild.report.terminal import Terminal, terminal_of

if TYPE_CHECKING:
    from maxbuild.cli.reproducible import Verification

_MOST_DEFAULT_JOBS = 8


def warm(
    context: typer.Context,
    manifest: ManifestOrValues = None,
    *,
    target: Targets = None,
    override: Overrides = None,
    variant: Variants = None,
    output: PackageFolder = Path("packages"),
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Tasks at once.", show_default="one per CPU, at most 8")
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            "--memory",
            metavar="SIZE",
            help="Memory that tasks may take together, by what each declares, as in 8GiB.",
            show_default="seven eighths of what the host or the container has",
        ),
    ] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", "-k", help="After a failure, go on with what does not need it.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Show what would be done, as `plan` does.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Do nothing, ask nobody; exit with 3 and a list where there is work to do.")
    ] = False,
    locked: Annotated[
        bool,
        typer.Option("--locked", help="Neither follow nor write the lock: one that lacks anything is an error (2)."),
    ] = False,
    offline: Offline = False,
    frozen: Annotated[
        bool,
        typer.Option("--frozen", help="Run nothing: what is not in the store or the remote cache is an error (3)."),
    ] = False,
    rerun: Annotated[
        list[str] | None,
        typer.Option("--rerun", metavar="TASK", help="Run TASK whatever the store has; may be repeated."),
    ] = None,
    remote: Annotated[
        str | None,
        typer.Option(
            "--remote",
            metavar="URL",
            envvar="MAXBUILD_REMOTE",
            help="Take results from a remote cache.",
        ),
    ] = None,
    remote_instance: Annotated[
        str,
        typer.Option(
            "--remote-instance",
            metavar="NAME",
            envvar="MAXBUILD_REMOTE_INSTANCE",
            help="Which part of it.",
        ),
    ] = "main",
    remote_write: Annotated[bool, typer.Option("--remote-write", help="Give it what is built here.")] = False,
    remote_weights: Annotated[
        bool,
        typer.Option("--remote-weights", help="Share downloads and packed weights too, not only what is computed."),
    ] = False,
    executor: Annotated[
        str | None, typer.Option("--executor", metavar="dask://HOST:PORT", help="Have tasks carried out elsewhere.")
    ] = None,
    lint: Annotated[
        bool, typer.Option("--lint", help="Watch what runs; exit with 1 where it touches files it does not declare.")
    ] = False,
    verify_reproducible: Annotated[
        bool,
        typer.Option(
            "--verify-reproducible", help="Build again from nothing; exit with 1 where a byte of a package is another."
        ),
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show all tasks also when nothing ran.")] = False,
    json: Json = False,
) -> None:
    """Build what a manifest describes, doing only what is missing.

    Prints the path of each package on stdout. A second run does only what changed since, and says why.
    """
    begin = time.monotonic()
    _refuse_contradictions({"--check": check, "--frozen": frozen, "--dry-run": dry_run, "--rerun": bool(rerun)})
    _refuse_contradictions({"--lint": lint, "--executor": bool(executor)})
    for option, given in {"--check": check, "--frozen": frozen, "--dry-run": dry_run, "--lint": lint}.items():
        _refuse_contradictions({option: given, "--verify-reproducible": verify_reproducible})
    room = parse_memory(memory) if memory is not None else _default_memory(executor)
    idle = check or dry_run
    networked = use_network(offline=offline)
    if not networked and not idle:
        _refuse_contradictions({"--offline (or HF_HUB_OFFLINE)": True, "--executor": executor not in (None, "local")})
        remote = reachable(remote)
    if idle:  # nobody is asked, so nothing is opened
        executor = None
    if idle or (remote is None and not networked):
        remote, remote_write, remote_weights = None, False, False
    asked = said(context, manifest, target, override, variant)
    with (
        open_project(
            asked,
            pin=not (idle or frozen or locked),
            ask=not (check or frozen),
            locked=locked,
            offline=offline,
        ) as project,
        open_sharing(remote, remote_instance, write=remote_write, weights=remote_weights) as sharing,
        open_executor(executor, sharing) as elsewhere,
        open_lint(wanted=lint and not idle) as linting,
    ):
        if check:
            from maxbuild.cli.check import check as tell  # noqa: PLC0415 - a build has no use for it

            tell(project, output, json=json)
        elif dry_run:
            show_plan(project, values=False, json=json)
        else:
            wishes = Wishes(
                scope=project.manifest.name,
                jobs=jobs or _default_jobs(),
                keep_going=keep_going,
                verbose=verbose,
                json=json,
                memory=room,
                frozen=frozen,
                rerun=_tasks_to_rerun(rerun or (), project),
                sharing=sharing,
                executor=elsewhere if linting is None else linting.executor,
                lint=None if linting is None else linting.reports,
            )
            if not (networked or frozen):
                require_files(project.manifest, project.plan, project.store)
            _build(project, wishes, output, begin, again=verify_reproducible)


def _refuse_contradictions(given: dict[str, bool]) -> None:
    """Raise UsageError for two options of which each says another thing to do."""
    chosen = [option for option, is_given in given.items() if is_given]
    if len(chosen) > 1:
        raise UsageError(f"`{chosen[0]}` and `{chosen[1]}` do not go together", hint="leave one of them out")


def _default_jobs() -> int:
    # More than these seldom help; who has the cores asks for more.
    return min(len(os.sched_getaffinity(0)), _MOST_DEFAULT_JOBS)


def _default_memory(executor: str | None) -> int | None:
    # What runs elsewhere takes nothing of this host's.
    return memory_for_builds() if executor in (None, "local") else None


def _tasks_to_rerun(queries: Sequence[str], project: Project) -> Sequence[str]:
    """Return the names of the tasks that `queries` mean; what may be the name of one that is known later stays."""
    report = project.survey() if queries else None
    names = []
    for query in queries:
        assert report is not None
        if report.deferred and query.split(" ")[0] in KINDS and not any(query in task.name for task in report.tasks):
            names.append(query)
        else:
            names.append(find_task(query, report))
    return names


def _build(project: Project, wishes: Wishes, output: Path, begin: float, *, again: bool) -> None:
    talk = terminal_of(sys.stderr, os.environ)
    built = build(project.plan, project.store, KINDS, wishes, talk)
    packages: Sequence[Path] = ()
    if not built.report.interrupted and (built.report.complete or wishes.keep_going):
        variants = project.plan.variants
        packages = [path for plan in variants for path in place_packages(plan, built.report, project.store, output)]
    seconds = time.monotonic() - begin
    verify = partial(_verify, project, built.report, wishes, talk) if again else None
    conclude(built, packages, wishes, talk, seconds, verify)


def _verify(project: Project, first: Report, wishes: Wishes, talk: Terminal) -> Verification:
    # Imported here: hardly any build is done twice.
    from maxbuild.cli.reproducible import verify_reproducible  # noqa: PLC0415

    return verify_reproducible(project.plan, first, project.store, KINDS, wishes, talk)
