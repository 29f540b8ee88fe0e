"""`warm --check`: whether there is anything to do, told without doing it; no hub, no remote cache is asked."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import typer

from maxbuild.cli.project import Project
from maxbuild.engine import Report
from maxbuild.errors import WorkFound
from maxbuild.packages import packages_to_place
from maxbuild.report.blocks import error_text
from maxbuild.report.documents import document, report_content
from maxbuild.report.summary import failures, nothing_to_do, work_found
from maxbuild.report.terminal import terminal_of


def check(project: Project, output: Path, *, json: bool) -> None:
    """Survey `project`, tell what `warm` would do, and exit with 3 where it would do anything."""
    begin = time.monotonic()
    report = project.survey()
    variants = project.plan.variants if report.complete else ()
    unplaced = [path for plan in variants for path in packages_to_place(plan, report, project.store, output)]
    tell_check(report, unplaced, project.manifest.name, time.monotonic() - begin, json=json)


def tell_check(report: Report, unplaced: Sequence[Path], name: str, seconds: float, *, json: bool) -> None:
    """Print what a survey found to do on stdout, and exit with its code: 3 for work, 1 where it cannot be told."""
    data, talk = terminal_of(sys.stdout, os.environ), terminal_of(sys.stderr, os.environ)
    clean = report.complete and not unplaced
    if json:
        content = report_content(name, report, seconds)
        typer.echo(document("check", {**content, "up_to_date": clean, "to_place": [str(path) for path in unplaced]}))
    else:
        data.write(nothing_to_do(report, seconds) if clean else work_found(name, report, unplaced, data))
    errors = failures(report)
    for error in errors:
        talk.write(error_text(error, talk))
    if errors:
        raise typer.Exit(1)
    if not clean:
        raise typer.Exit(WorkFound.exit_code)
