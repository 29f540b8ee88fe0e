"""`maxbuild diff`: what is different between two runs, from the documents that are kept of their tasks."""

from __future__ import annotations

import os
import sys
import time

import typer

from maxbuild.cli.options import Json, RunName
from maxbuild.cli.runnames import find_named_run, require_tasks
from maxbuild.engine import Store, default_store_root
from maxbuild.report.difference import compare_runs, difference_content, difference_text
from maxbuild.report.documents import document
from maxbuild.report.terminal import terminal_of


def diff(old: RunName, new: RunName, *, json: Json = False) -> None:
    """Say what is different between two runs: tasks that came and went, and every value, from old to new.

    For example `maxbuild diff last~1 last`. Tasks that had the same key in both are only counted.
    """
    with Store(default_store_root(os.environ)) as store:
        tell_difference(old, new, store, json=json)


def tell_difference(old: str, new: str, store: Store, *, json: bool = False) -> None:
    """Print the difference between the runs that `old` and `new` mean."""
    runs = [find_named_run(query, store) for query in (old, new)]
    for run in runs:
        require_tasks(run)
    difference = compare_runs(runs[0], runs[1], store)
    if json:
        typer.echo(document("diff", difference_content(difference)))
    else:
        data = terminal_of(sys.stdout, os.environ)
        data.write(difference_text(difference, time.time(), data))
