"""`maxbuild why --last`: why tasks ran in a run of the past, from its journal; nothing is looked up anew."""

from __future__ import annotations

import os
import sys
import time

import typer

from maxbuild.cli.runnames import find_named_run, require_tasks
from maxbuild.cli.tasknames import find_name
from maxbuild.engine import Store
from maxbuild.engine.journal import Run, each_run
from maxbuild.report.documents import document
from maxbuild.report.past import RAN, past_content, past_text, reasons_of
from maxbuild.report.runs import run_content, run_line
from maxbuild.report.terminal import terminal_of


def answer_past(name: str, query: str, store: Store, scope: str, *, json: bool = False) -> None:
    """Print why the task that `query` means, or every task that ran, ran in the run called `name` of `scope`."""
    run = find_named_run(name, store, scope)
    require_tasks(run)
    if query:
        told = [run.tasks[find_name(query, list(run.tasks), otherwise=f"run {run.id} had no task of such a name")]]
    else:
        told = [task for task in run.tasks.values() if task.state in RAN]
    answers = [(task, reasons_of(task, store)) for task in told]
    if json:
        tasks = [past_content(task, reasons) for task, reasons in answers]
        typer.echo(document("why", {"manifest": run.scope, "run": run_content(run), "tasks": tasks}))
        return
    data, talk = terminal_of(sys.stdout, os.environ), terminal_of(sys.stderr, os.environ)
    data.write(run_line(run, time.time()))
    for task, reasons in answers:
        data.write("\n" + past_text(task, reasons, data))
    if not answers:
        talk.write(_where_something_ran(run, store))


def _where_something_ran(run: Run, store: Store) -> str:
    """Return what to ask about where nothing ran in `run`."""
    for older in each_run(store, run.scope):
        if older.id < run.id and any(task.state in RAN for task in older.tasks.values()):
            return f"nothing ran; the newest run before it in which something did is {older.id} (`--run {older.id}`)"
    return "nothing ran"
