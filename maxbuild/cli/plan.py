"""`maxbuild plan`: what `warm` would do, on stdout, without doing it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from maxbuild.cli.network import Offline, require_files, use_network
from maxbuild.cli.options import Json, ManifestOrValues, Overrides, Targets, Variants
from maxbuild.cli.project import Project, open_project
from maxbuild.cli.values import said
from maxbuild.engine import Report
from maxbuild.manifest import Manifest
from maxbuild.report.blocks import error_text
from maxbuild.report.documents import document, report_content
from maxbuild.report.sources import sources_content, sources_text
from maxbuild.report.summary import closing_line, failures, tasks_table
from maxbuild.report.terminal import terminal_of
from maxbuild.report.values import final_values, values_content, values_table

if TYPE_CHECKING:
    from maxbuild.plan.components import Component


def plan(
    context: typer.Context,
    manifest: ManifestOrValues = None,
    *,
    target: Targets = None,
    override: Overrides = None,
    variant: Variants = None,
    offline: Offline = False,
    values: Annotated[
        bool, typer.Option("--values", help="Show every final value too, and where it was said.")
    ] = False,
    json: Json = False,
) -> None:
    """Show what `warm` would do, and do nothing.

    What is known only once a task has run is listed as such, never guessed.
    """
    with open_project(said(context, manifest, target, override, variant), offline=offline) as project:
        show_plan(project, values=values, json=json)


def show_plan(project: Project, *, values: bool, json: bool) -> None:
    """Survey `project` and tell what it came to."""
    begin = time.monotonic()
    report = project.survey()
    seconds, components = time.monotonic() - begin, project.plan.components
    tell_plan(report, project.manifest, seconds, components, values=values, json=json)
    if not use_network(offline=False):
        require_files(project.manifest, project.plan, project.store)


def tell_plan(
    report: Report,
    manifest: Manifest,
    seconds: float,
    components: Sequence[Component] = (),
    *,
    values: bool,
    json: bool,
) -> None:
    """Print what a survey came to, on stdout, and its failures on stderr."""
    data, talk = terminal_of(sys.stdout, os.environ), terminal_of(sys.stderr, os.environ)
    rows = final_values(manifest) if values else ()
    if json:
        content = report_content(manifest.name, report, seconds)
        sources = {"sources": sources_content(components)} if components else {}
        typer.echo(document("plan", content | sources | ({"values": values_content(rows)} if values else {})))
    else:
        if values:
            data.write(values_table(rows, data) + "\n")
        if sources_told := sources_text(components, data):
            data.write(sources_told + "\n")
        data.write(tasks_table(report, data, afterwards=False))
        data.write()
        data.write(closing_line(manifest.name, report, seconds, afterwards=False))
    if manifest.architectures:
        from maxbuild.architectures.precedence import stand_ins  # noqa: PLC0415 - hardly any manifest has them

        for sentence in stand_ins(manifest.architectures):
            talk.write(f"note: {sentence}")
    errors = failures(report)
    for error in errors:
        talk.write(error_text(error, talk))
    if errors:
        raise typer.Exit(1)
