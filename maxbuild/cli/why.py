"""`maxbuild why`: the reasons of one task, or of all that would run."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from maxbuild.cli.options import Json, ManifestFile, Overrides, Targets
from maxbuild.cli.project import open_project
from maxbuild.cli.tasknames import find_task
from maxbuild.engine import Report, State, Store
from maxbuild.report.documents import document
from maxbuild.report.reasons import Answer, answer, answer_text, answers_content
from maxbuild.report.terminal import terminal_of
from maxbuild.report.units import plural
from maxbuild.report.words import deferred


def why(
    manifest: ManifestFile,
    task: Annotated[
        list[str] | None, typer.Argument(metavar="[TASK]", help="A task, or enough words of its name to tell it.")
    ] = None,
    *,
    target: Targets = None,
    override: Overrides = None,
    json: Json = False,
) -> None:
    """Say why a task would run, each reason from its old value to its new one.

    For a task that is up to date: why it ran the last time it did. Without TASK: all tasks that would run.
    """
    with open_project(manifest, target, override) as project:
        answer_why(" ".join(task or ()), project.survey(), project.store, project.manifest.name, json=json)


def answer_why(query: str, report: Report, store: Store, scope: str, *, json: bool = False) -> None:
    """Print why the task that `query` means, or every task of a survey that would run, runs."""
    names = [find_task(query, report)] if query else [task.name for task in report.in_state(State.WOULD_RUN)]
    answers = [answer(name, report, store, scope) for name in names]
    if json:
        typer.echo(document("why", {"manifest": scope, "tasks": answers_content(answers)}))
        return
    data = terminal_of(sys.stdout, os.environ)
    if answers:
        data.write("\n\n".join(answer_text(told, data) for told in answers))
    if not query and (rest := _rest(report, answers)):
        data.write(rest)


def _rest(report: Report, answers: list[Answer]) -> str:
    """Return what is to be said beside the answers about all tasks."""
    if not answers and report.complete:
        return f"nothing to do: {plural(len(report.tasks), 'task')} cached"
    lines = []
    if waiting := report.in_state(State.WAITING):
        lines.append(f"{plural(len(waiting), 'task')} after these, if what they consume comes out different")
    lines += [deferred(part) for part in report.deferred]
    return "\n" + "\n".join(lines) if lines else ""
