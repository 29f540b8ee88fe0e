"""`maxbuild why`: the reasons of one task, or of all that would run."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from maxbuild.cli.network import Offline
from maxbuild.cli.options import Json, ManifestOrValues, Overrides, Targets, Variants
from maxbuild.cli.project import open_project
from maxbuild.cli.tasknames import find_task
from maxbuild.cli.values import Said, names_model, said
from maxbuild.engine import Report, State, Store, default_store_root
from maxbuild.errors import UsageError
from maxbuild.report.documents import document
from maxbuild.report.reasons import Answer, answer, answer_text, answers_content
from maxbuild.report.terminal import terminal_of
from maxbuild.report.units import plural
from maxbuild.report.words import deferred


def why(
    context: typer.Context,
    manifest: ManifestOrValues = None,
    task: Annotated[
        list[str] | None, typer.Argument(metavar="[TASK]", help="A task, or enough words of its name to tell it.")
    ] = None,
    *,
    target: Targets = None,
    override: Overrides = None,
    variant: Variants = None,
    offline: Offline = False,
    last: Annotated[
        bool, typer.Option("--last", help="Say why tasks ran in the newest run of the manifest; look nothing up anew.")
    ] = False,
    run: Annotated[
        str | None, typer.Option("--run", metavar="RUN", help="As --last, of the run RUN, as `maxbuild runs` lists it.")
    ] = None,
    json: Json = False,
) -> None:
    """Say why a task would run, each reason from its old value to its new one.

    For a task that is up to date: why it ran the last time it did. Without TASK: all tasks that would run.
    """
    file, query = _file_and_query(context, manifest, task or ())
    asked = said(context, file, target, override, variant)
    if last or run is not None:
        if last and run is not None:
            raise UsageError("`--last` and `--run` do not go together", hint="`--last` is `--run last`")
        _answer_past(asked, run or "last", query, json=json)
        return
    with open_project(asked, offline=offline) as project:
        answer_why(query, project.survey(), project.store, project.manifest.name, json=json)


def _file_and_query(context: typer.Context, first: Path | None, others: Sequence[str]) -> tuple[Path | None, str]:
    """Return the manifest's file and the words for a task: where flags name the model, all words are for the task."""
    if first is None or first.suffix in {".yaml", ".yml"} or not names_model(context):
        return first, " ".join(others)
    return None, " ".join([str(first), *others])


def _answer_past(asked: Said, run: str, query: str, *, json: bool) -> None:
    # Imported here: the question about now has no use for the past.
    from maxbuild.cli.past import answer_past  # noqa: PLC0415

    scope = asked.load().name
    with Store(default_store_root(os.environ)) as store:
        answer_past(run, query, store, scope, json=json)


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
