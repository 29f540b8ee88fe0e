"""`maxbuild plan`: what `warm` would do, on stdout, without doing it."""

from __future__ import annotations

import os
import sys
import time
from typing import Annotated

import typer

from maxbuild.cli.options import Json, ManifestFile, Overrides, Targets
from maxbuild.cli.project import Project, open_project
from maxbuild.engine import Report
from maxbuild.manifest import Manifest
from maxbuild.report.blocks import error_text
from maxbuild.report.documents import document, report_content
from maxbuild.report.summary import closing_line, failures, tasks_table
from maxbuild.report.terminal import terminal_of
from maxbuild.report.values import final_values, values_content, values_table


def plan(
    manifest: ManifestFile,
    *,
    target: Targets = None,
    override: Overrides = None,
    values: Annotated[
        bool, typer.Option("--values", help="Show every final value too, and where it was said.")
    ] = False,
    json: Json = False,
) -> None:
    """Show what `warm` would do, and do nothing.

    What is known only once a task has run is listed as such, never guessed.
    """
    with open_project(manifest, target, override) as project:
        show_plan(project, values=values, json=json)


def show_plan(project: Project, *, values: bool, json: bool) -> None:
    """Survey `project` and tell what it came to."""
    begin = time.monotonic()
    report = project.survey()
    tell_plan(report, project.manifest, time.monotonic() - begin, values=values, json=json)


def tell_plan(report: Report, manifest: Manifest, seconds: float, *, values: bool, json: bool) -> None:
    """Print what a survey came to, on stdout, and its failures on stderr."""
    data, talk = terminal_of(sys.stdout, os.environ), terminal_of(sys.stderr, os.environ)
    rows = final_values(manifest) if values else ()
    if json:
        content = report_content(manifest.name, report, seconds)
        typer.echo(document("plan", content | ({"values": values_content(rows)} if values else {})))
    else:
        if values:
            data.write(values_table(rows, data) + "\n")
        data.write(tasks_table(report, data, afterwards=False))
        data.write()
        data.write(closing_line(manifest.name, report, seconds, afterwards=False))
    errors = failures(report)
    for error in errors:
        talk.write(error_text(error, talk))
    if errors:
        raise typer.Exit(1)
